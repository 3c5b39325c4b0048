"""End-to-end tests create and delete things: only on clusters that are allowed by name."""

import pytest

from tests.e2e.cluster import ALLOWED, NotAllowed, allowed_context


@pytest.mark.parametrize("context", ["production", "kind-nexus-auth-2", "kind-nexus", "", "*"])
def test_a_context_that_nobody_named_is_refused(context: str) -> None:
    with pytest.raises(NotAllowed, match="E2E_CONTEXTS"):
        allowed_context(context, allowed=ALLOWED)


@pytest.mark.parametrize("context", ["kind-nexus-auth", "k3d-nexus-auth"])
def test_contexts_of_that_very_name_are_allowed(context: str) -> None:
    assert allowed_context(context, allowed=ALLOWED) == context


def test_others_are_allowed_by_name() -> None:
    assert allowed_context("staging", allowed=" staging , other") == "staging"


def test_naming_none_allows_none() -> None:
    with pytest.raises(NotAllowed):
        allowed_context("", allowed=" , ")
