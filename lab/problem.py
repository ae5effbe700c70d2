class Problem(Exception):
    """Something that the person at the keyboard can mend, and how."""

    def __init__(self, what, remedy):
        super().__init__(f"{what}\n  remedy: {remedy}")
