"""One candidate's way from its commit to a published task: the stages after the screen, in order.

Each stage ends in a row of the ledger. What a stage found out is kept in the output folder's state before its row is
written, so that a run killed in the gate goes on with the gate. Environments, locks and clones have caches of their
own. Nothing appears under ``tasks/`` but by one rename of a whole folder.
"""

import time
from pathlib import Path

from envfarm.errors import BoundaryError, RepositoryError
from envfarm.images import unfinished_folder
from task_miner.candidate_work import StageEnd, StageWork, Work, Workshop
from task_miner.languages.contract import EnvironmentFailedError
from task_miner.ledger import StageRow
from task_miner.output_folder import as_folder_error
from task_miner.reasons import RETRIED_BY_THEMSELVES, ReasonCode, Stage
from task_miner.stages import STAGES
from task_miner.unit import Candidate


def settled_code(rows: tuple[StageRow, ...], rules: str, task_folder: Path) -> ReasonCode | None:
    """Return what an earlier run said of a candidate, if it is final under the same rules."""
    for row in reversed(rows):
        if row.rules != rules or row.code in RETRIED_BY_THEMSELVES:
            continue
        if row.code is not ReasonCode.OK:
            return row.code
        if row.stage is Stage.PUBLISH and task_folder.is_dir():
            return ReasonCode.OK
    return None


async def run_candidate(shop: Workshop, candidate: Candidate) -> ReasonCode:
    """Take a candidate through all stages and return why it fell, or OK once its task is published.

    A failure of the farm's own becomes the code FARM_ERROR, which the next run takes again. A user error (a full disk,
    a missing tool) passes: it would befall every candidate. Cancellation leaves ended stages in the ledger.
    """
    with unfinished_folder(shop.options.cache_folder / "scratch", f"{candidate.candidate_id}-") as scratch:
        work = Work(candidate=candidate, scratch=scratch)
        for stage, do in STAGES:
            end = await _run_stage(shop, work, stage, do)
            if end.code is not ReasonCode.OK:
                if end.code not in RETRIED_BY_THEMSELVES:
                    shop.folder.drop_state(candidate.candidate_id)
                return end.code
    shop.folder.drop_state(candidate.candidate_id)
    return ReasonCode.OK


async def _run_stage(shop: Workshop, work: Work, stage: Stage, do: StageWork) -> StageEnd:
    candidate_id = work.candidate.candidate_id
    shop.observer.on_stage(candidate_id, stage)
    started = time.monotonic()
    try:
        end = await do(shop, work)
    except EnvironmentFailedError as error:
        end = StageEnd(code=error.code, detail=_last_line(error.log), log=error.log)
    except RepositoryError as error:
        end = StageEnd(code=ReasonCode.OBJECT_MISSING, detail=str(error), log=str(error))
    except BoundaryError as error:
        end = StageEnd(code=ReasonCode.FARM_ERROR, detail=f"{error.code}: {error}", log=f"{error.code}: {error}")
    except OSError as error:
        raise as_folder_error(shop.folder.path, error) from error
    row = StageRow(
        candidate_id=candidate_id,
        stage=stage,
        code=end.code,
        detail=end.detail[:500],
        seconds=round(time.monotonic() - started, 3),
        bytes=end.bytes,
        log=shop.folder.write_log(candidate_id, stage, end.log) if end.log else "",
        rules=shop.options.rules(),
        source=shop.source.key,
    )
    shop.ledger.put([row])
    shop.observer.on_row(row)
    return end


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else ""
