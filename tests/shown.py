"""What a task printed."""

import re


def shown(captured):
    """Return it without colours, nor the lines in which ``dag.test()`` of Airflow 3.0 masks a secret."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", f"{captured.out}\n{captured.err}")
    return "\n".join(line for line in text.splitlines() if "msg=MaskSecret(" not in line)
