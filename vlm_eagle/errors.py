"""The one exception that speaks to the user."""


class UserError(ValueError):
    """Something the user can fix. The message says what is wrong, why, and what to do.

    Command lines print it without a traceback and exit with code 2; everything else that is raised is a defect of ours.
    """
