"""The five roles of a project, each able to do all that the one before it may."""

from enum import StrEnum


class Role(StrEnum):
    """What a subject may do in a project."""

    viewer = "viewer"
    """Look at everything."""
    reviewer = "reviewer"
    """Decide in reviews."""
    trainer = "trainer"
    """Bring images in, freeze, train, open and close reviews."""
    promoter = "promoter"
    """Promote, roll back, and run endpoints."""
    admin = "admin"
    """Members, tokens and the project's settings."""

    def reaches(self, least: "Role") -> bool:
        """Tell whether this role may do what `least` may."""
        return ORDER.index(self) >= ORDER.index(least)


ORDER = tuple(Role)


def lower_of(one: Role, other: Role | None) -> Role:
    """Return the role that may do less; None stands for no limit."""
    return one if other is None or other.reaches(one) else other
