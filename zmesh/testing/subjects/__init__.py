"""What is under test: zmesh's own protocols as the simulator hosts them, each with its checkers."""

from __future__ import annotations

import importlib
from typing import Final

from zmesh.errors import UsageError
from zmesh.testing.trial import Subject

__all__ = ["SUBJECTS", "name_of", "resolve"]

SUBJECTS: Final = {
    "membership": "zmesh.testing.subjects.membership:MembershipSubject",
    "membership": "zmesh.testing.subjects.membership:MembershipSubject",
    "membership-wide": "zmesh.testing.subjects.membership:WideMembershipSubject",
    "delivery": "zmesh.testing.subjects.delivery:DeliverySubject",
    "broadcast": "zmesh.testing.subjects.broadcast_rules:BroadcastSubject",
}


def resolve(name: str) -> type[Subject]:
    """The subject of that name, or at ``module:Class``. Raises ``UsageError``."""
    module_name, _, class_name = SUBJECTS.get(name, name).partition(":")
    if not class_name:
        raise UsageError(f"{name} is no subject: give one of {', '.join(SUBJECTS)}, or one of yours as module:Class")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"there is no subject {name}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Subject)):
        raise UsageError(f"{name} is no subject: it must be a class derived from zmesh.testing.Subject")
    return found


def name_of(subject_class: type[Subject]) -> str:
    """What ``resolve`` finds the subject by."""
    path = f"{subject_class.__module__}:{subject_class.__qualname__}"
    return next((name for name, known in SUBJECTS.items() if known == path), path)
