"""docs/reference/tables.md says what the database says."""

from devtools.postgres import Database, fetch
from devtools.tables import PAGE, QUERY, page


def test_the_page_of_tables_is_what_the_database_says(database: Database) -> None:
    assert page(database.admin_url) == PAGE.read_text("utf-8"), "python -m devtools.tables DATABASE_URL writes it anew"


def test_every_table_and_column_of_the_mirror_has_a_comment(database: Database) -> None:
    rows = fetch(database.admin_url, QUERY)
    assert rows
    assert [(row["table_name"], row["name"]) for row in rows if not row["comment"] or not row["table_comment"]] == []
