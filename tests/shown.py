"""What a task printed, and what a log may show of an error."""

import re
import traceback


def shown(captured):
    """Return it without colours, nor the lines in which ``dag.test()`` of Airflow 3.0 masks a secret."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", f"{captured.out}\n{captured.err}")
    return "\n".join(line for line in text.splitlines() if "msg=MaskSecret(" not in line)


def held_by_frames(error):
    """Return the locals of an error's traceback, and of those behind it: some logs render them."""
    texts, errors = [], [error]
    for each in errors:
        for frame, _ in traceback.walk_tb(each.__traceback__):
            texts += [repr(value) for value in frame.f_locals.values()]
        errors += [other for other in (each.__cause__, each.__context__) if other not in [None, *errors]]
    return " ".join(texts)
