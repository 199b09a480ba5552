"""What a triggerer does to a trigger before it runs it."""


def in_triggerer(trigger, ti):
    """Give a trigger its task instance as a triggerer does; None makes it run inline."""
    vars(trigger)["_task_instance" if hasattr(trigger, "_task_instance") else "task_instance"] = ti
