"""What a task printed."""


def shown(captured):
    """Return it, but for the lines in which ``dag.test()`` of Airflow 3.0 asks itself to mask a secret."""
    lines = f"{captured.out}\n{captured.err}".splitlines()
    return "\n".join(line for line in lines if "msg=MaskSecret(" not in line)
