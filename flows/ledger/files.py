"""What the ledger has seen of files: how they looked, since when, and of what content they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Engine, and_, case, select

from flows.ledger.holder import is_gone
from flows.ledger.rows import Sighting, Stamps
from flows.ledger.statements import among, batched, insert_into, reading, replaced
from flows.ledger.tables import SCENE, SEEN, clock


class Files:
    """Files of the scenes of one recipe's name.

    Args:
        engine: the database, with its tables.
        pipeline: the recipe's name.
    """

    def __init__(self, engine: Engine, pipeline: str) -> None:
        self._engine = engine
        self._pipeline = pipeline

    def sightings(self, keys: Iterable[str]) -> dict[str, Sighting]:
        """Return what is known of files, by key; a scene whose outputs were replaced is pending."""
        known = case((and_(SCENE.c.state == "done", replaced(self._pipeline)), "pending"), else_=SCENE.c.state)
        columns = (SEEN.c.key, SEEN.c.stamps, SEEN.c.since, SEEN.c.identity, known.label("state"))
        joined = SEEN.outerjoin(SCENE, and_(SCENE.c.pipeline == SEEN.c.pipeline, SCENE.c.identity == SEEN.c.identity))
        more = (SCENE.c.lease, SCENE.c.host, SCENE.c.recipe, SCENE.c.weights)
        asked = select(*columns, *more).select_from(joined).where(SEEN.c.pipeline == self._pipeline)
        found = {}
        with reading(self._engine) as db:
            now = clock(db)
            for which in among(db, SEEN.c.key, list(keys)):
                for key, stamps, since, identity, state, lease, host, *made in db.execute(asked.where(which)):
                    held = state == "running" and lease > now and not is_gone(host)
                    found[key] = Sighting(stamps, since, identity, state, held, *made)
        return found

    def saw(self, files: Mapping[str, Stamps], identity: str | None = None) -> None:
        """Note how files look now, and of what content they are, where that is known."""
        with self._engine.begin() as db:
            now = clock(db)
            rows = [
                {"pipeline": self._pipeline, "key": key, "stamps": stamps, "since": now, "identity": identity}
                for key, stamps in files.items()
            ]
            for some in batched(rows):
                put = insert_into(db, SEEN).values(some)
                kept = {name: put.excluded[name] for name in ("stamps", "since", "identity")}
                db.execute(put.on_conflict_do_update(index_elements=["pipeline", "key"], set_=kept))
