"""An entity is declared once: the CRD, the manifests and the database say the same as the catalogue."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml

from devtools.postgres import Database
from nexus_auth.clerk.catalogue import BY_KIND, ENTITIES, PROJECTED, Entity, Parent, parents_first
from services.reconciler.manifests import KINDS

CRDS = Path(__file__).parents[2] / "crds"


def enums_of(schema: Any, path: str = "") -> dict[str, list[str]]:
    """Every list of allowed values in a schema that holds a resource's name, by where it stands."""
    found: dict[str, list[str]] = {}
    if isinstance(schema, dict):
        if "users" in (schema.get("enum") or ()):
            found[path] = schema["enum"]
        for key, value in schema.items():
            found |= enums_of(value, f"{path}.{key}")
    return found


def test_the_custom_resource_names_exactly_the_projected_resources_parents_first() -> None:
    definition = yaml.safe_load((CRDS / "clerksync.yaml").read_text())
    found = enums_of(definition)
    assert found
    assert all(names == [entity.resource for entity in PROJECTED] for names in found.values()), found


def test_manifests_and_catalogue_agree() -> None:
    assert {entity.resource: entity.kind for entity in PROJECTED} == KINDS
    assert set(BY_KIND) == {entity.kind for entity in ENTITIES.values()}
    assert len({entity.resource for entity in PROJECTED}) == len(PROJECTED)


async def test_the_database_has_the_same_kinds_projections_and_parents(database: Database) -> None:
    connection = await asyncpg.connect(database.admin_url)
    try:
        kinds = await connection.fetch("select kind, projection from clerk_private.entities order by rank")
        assert [(row["kind"], row["projection"]) for row in kinds] == [
            (entity.kind, entity.projection) for entity in PROJECTED
        ]
        parents = await connection.fetch(
            "select kind, parent_kind, path, position from clerk_private.entity_parents order by kind, position"
        )
        declared = [
            (entity.kind, parent.kind, list(parent.path))
            for entity in sorted(PROJECTED, key=lambda entity: entity.kind)
            for parent in entity.parents
        ]
        assert [(row["kind"], row["parent_kind"], row["path"]) for row in parents] == declared
    finally:
        await connection.close()


@pytest.mark.parametrize("entity", PROJECTED, ids=lambda entity: entity.kind)
def test_what_is_projected_can_be_listed_counted_and_read_by_name(entity: Entity) -> None:
    assert entity.listing is not None
    assert entity.named is not None
    assert all(entity.nouns)
    assert "deletion" in entity.verbs.values()
    if entity.named.names is not None:
        kinds = {parent.kind for parent in entity.parents}
        assert entity.named.names in kinds
        assert any("{" + kind + "}" in entity.named.path for kind in kinds - {entity.named.names})
    assert all("{id}" in parent.children for parent in entity.parents)


def test_parents_come_first_whatever_the_order_of_their_declaration() -> None:
    child = Entity("child", "child", parents=(Parent("parent", ("parent",), "/parents/{id}/children"),))
    parent = Entity("parent", "parent")
    assert [entity.kind for entity in parents_first({"child": child, "parent": parent})] == ["parent", "child"]
    circle = Entity("parent", "parent", parents=(Parent("child", ("child",), "/children/{id}/parents"),))
    with pytest.raises(ValueError, match="child"):
        parents_first({"child": child, "parent": circle})
