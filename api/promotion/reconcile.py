"""One worker step of an endpoint: what it should serve against what it serves, and promotions."""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any

from sqlalchemy import func

from api import leases
from api.cluster.protocol import Cluster, DeploymentRequest, SeenDeployment
from api.database import Database
from api.jobs.renewal import renewed
from api.promotion.asking import PROBE, Classified, NoAnswerError, PictureRefusedError, classify
from api.promotion.cases import Case, Outcome, apply_outcome, claim_case, forget_endpoint
from api.promotion.deployments import (
    Named,
    candidate_deployment,
    deployment_request,
    endpoint_deployment,
)
from api.promotion.endpoints import GATES
from api.promotion.evidence import (
    ask_about,
    compares,
    images_to_ask,
    pair_with_champion,
    sample_all,
    sample_held_out,
)
from api.promotion.gates import ClassPair, Evidence, Gate, GateResult, judge, with_parity
from api.promotion.states import PromotionState, move
from api.settings import Settings
from api.stores import below_project
from api.tables import Promotion, Report
from api.tokens import token_hash
from bearloop.bundle import bundle_prefix
from bearloop.contract.report import Summary
from bearloop.store import Store, StoreError

SLOWER = 4
"""An endpoint that is not ready is looked at every so many polls."""


class LostClaimError(Exception):
    """The claim ran out while the step worked: another worker goes on, this one drops it."""


class NotYetError(Exception):
    """The candidate cannot be judged at this moment; says why."""


class UnfitBundleError(Exception):
    """The server refuses the candidate's bundle, today and tomorrow; says why."""


@dataclass(frozen=True)
class Watch:
    """What a step works with."""

    database: Database
    cluster: Cluster
    store: Store
    """The root; each endpoint sees it below its project's prefix."""
    settings: Settings


@dataclass(frozen=True)
class Look:
    """What came of asking the endpoint."""

    serving: str | None
    """Digest in the answer."""
    url: str | None
    reason: str | None
    """None when it is as it should be."""
    ready: bool = False
    """What should answer does."""

    def columns(self) -> dict[str, Any]:
        """Return the endpoint's columns that tell of it."""
        return {
            "serving_digest": self.serving,
            "url": self.url,
            "reason": self.reason,
            "ready": self.ready,
        }


def step(
    database: Database, cluster: Cluster, store: Store, *, settings: Settings, owner: str
) -> bool:
    """Bring one due endpoint, and its promotion, one look further; False when none is due.

    Repeating a step is harmless, and a worker that is killed in one leaves no more than a claim
    that runs out.
    """
    with database.transaction() as session:
        case = claim_case(session, owner=owner, settings=settings)
    if case is None:
        return False
    watch = Watch(database, cluster, store, settings)
    try:
        if case.endpoint.deleted_at is not None:
            _remove(watch, case)
        else:
            outcome = _work(watch, case)
            with database.transaction() as session:
                apply_outcome(session, case, outcome)
    except LostClaimError:
        pass  # whoever holds the endpoint now does all of it again
    return True


def _remove(watch: Watch, case: Case) -> None:
    _undeploy(watch, case, _endpoint_name(case))
    if case.unfinished is not None:
        _undeploy(watch, case, candidate_deployment(case.unfinished.id))
    with watch.database.transaction() as session:
        forget_endpoint(session, case)


def _work(watch: Watch, case: Case) -> Outcome:
    promotion = case.unfinished
    if promotion is None:
        return _keep_serving(watch, case)
    if case.abandoned:
        reason = promotion.reason or "the worker failed at it again and again; see its log"
        return _fail(watch, case, promotion, reason=reason)
    if promotion.state == PromotionState.rolling_out:
        return _roll_out(watch, case, promotion)
    return _check(watch, case, promotion)


def _keep_serving(watch: Watch, case: Case) -> Outcome:
    settings = watch.settings
    digest = case.endpoint.bundle_digest
    if digest is None or case.live is None:
        # What a first promotion left that did not come to be live.
        if watch.cluster.deployment(_endpoint_name(case)) is not None:
            _undeploy(watch, case, _endpoint_name(case))
        look = Look(None, None, "nothing was promoted to it yet")
        return Outcome(look.columns(), settings.endpoint_poll)
    look = _serve(watch, case, case.live)
    due_in = settings.endpoint_poll if look.reason is None else settings.poll * SLOWER
    return Outcome(look.columns(), due_in)


def _check(watch: Watch, case: Case, promotion: Promotion) -> Outcome:
    kept = _keep_serving(watch, case)
    try:
        results = _judge_candidate(watch, case, promotion)
    except (NotYetError, NoAnswerError, StoreError, UnfitBundleError) as error:
        if case.overdue or isinstance(error, UnfitBundleError):
            return _fail(watch, case, promotion, reason=str(error))
        return Outcome(kept.endpoint, watch.settings.poll, {"reason": str(error)})
    _undeploy(watch, case, candidate_deployment(promotion.id))
    failed = [result.words for result in results if not result.passed]
    to = PromotionState.refused if failed else PromotionState.rolling_out
    changes = _moved(promotion, to, reason="; ".join(failed) or None)
    changes["results"] = [result.model_dump(mode="json") for result in results]
    return Outcome(kept.endpoint, timedelta(0), changes)


def _judge_candidate(watch: Watch, case: Case, promotion: Promotion) -> list[GateResult]:
    if case.report is None:
        raise NotYetError("the run has no report; train again")
    if case.challenger.report is None:
        raise NotYetError("the run was trained on all images and has no twin; train that")
    gates = with_parity(GATES.validate_python(case.endpoint.gates))
    reports = (case.report, case.challenger.report)
    evidence = _evidence(watch, case, promotion, reports=reports, gates=gates)
    return [judge(gate, evidence) for gate in gates]


def _evidence(
    watch: Watch,
    case: Case,
    promotion: Promotion,
    *,
    reports: tuple[Report, Report],
    gates: tuple[Gate, ...],
) -> Evidence:
    """Gather what gates look at; `reports` are the bundle's own, and that which measures it."""
    own, measuring = reports
    store = _project_store(watch, case)
    url = _candidate_url(watch, case, promotion)
    sample = sample_held_out if case.challenger.twin is None else sample_all
    # However large the reports are: what is read of them creates nothing.
    with renewed(watch.database, case.endpoint, lease=watch.settings.lease):
        rows = sample(store, own, count=images_to_ask(gates))
        pairs = None if case.live is None else _pairs(case, store, measuring, gates=gates)
    # At least two thirds of the lease are left: so often is it renewed.
    until = monotonic() + watch.settings.lease.total_seconds() / 2
    ask = partial(_ask_candidate, url=url, promotion=promotion, until=until)
    return Evidence(
        summary=Summary.model_validate(measuring.summary),
        answers=ask_about(store, rows, ask=ask),
        pairs=pairs,
        twin=case.challenger.twin,
        champion_twin=case.champion.twin,
    )


def _pairs(
    case: Case, store: Store, measuring: Report, *, gates: tuple[Gate, ...]
) -> list[ClassPair]:
    champion = case.champion.report
    # Whole reports are read for it, so only when a gate looks at it.
    if champion is None or not compares(gates):
        return []
    return pair_with_champion(
        store, champion, measuring, names=case.class_names, merged=case.merged
    )


def _candidate_url(watch: Watch, case: Case, promotion: Promotion) -> str:
    request = deployment_request(
        _candidate(case, promotion),
        bundle_prefix(promotion.bundle_digest),
        store_url=_project_store(watch, case).url,
        token_hashes=[token_hash(promotion.probe_token or "").hex()],
    )
    seen = _deploy(watch, case, request)
    if seen is None or not seen.ready or seen.url is None:
        why = seen.reason if seen else None
        if seen and seen.refused:
            raise UnfitBundleError(f"the candidate's server refuses the bundle: {why}")
        raise NotYetError(f"the candidate does not answer yet: {why or 'it is starting'}")
    return seen.url


def _ask_candidate(picture: bytes, *, url: str, promotion: Promotion, until: float) -> Classified:
    if monotonic() > until:
        raise NotYetError("the candidate answers too slowly to be asked within one lease")
    answer = classify(url, picture, token=promotion.probe_token)
    if answer.bundle != promotion.bundle_digest:
        raise NotYetError(f"the candidate answers with bundle {answer.bundle[:12]}")
    return answer


def _roll_out(watch: Watch, case: Case, promotion: Promotion) -> Outcome:
    look = _serve(watch, case, promotion)
    if look.reason is None:
        changes = _moved(promotion, PromotionState.live, reason=None)
        endpoint = {**look.columns(), "bundle_digest": promotion.bundle_digest}
        return Outcome(endpoint, watch.settings.endpoint_poll, changes)
    if case.overdue:
        return _fail(watch, case, promotion, reason=look.reason)
    # Until it is live the endpoint should serve what it served: `ready` speaks of that one.
    ready = look.serving is not None and look.serving == case.endpoint.bundle_digest
    endpoint = {**look.columns(), "ready": ready, "reason": None if ready else look.reason}
    return Outcome(endpoint, watch.settings.poll, {"reason": look.reason})


def _fail(watch: Watch, case: Case, promotion: Promotion, *, reason: str) -> Outcome:
    if promotion.state == PromotionState.checking:
        _undeploy(watch, case, candidate_deployment(promotion.id))
    # The next step finds no promotion under way, and deploys what should serve again.
    return Outcome({}, timedelta(0), _moved(promotion, PromotionState.failed, reason=reason))


def _moved(promotion: Promotion, to: PromotionState, *, reason: str | None) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "state": move(promotion.state, to),
        "reason": reason,
        "moved_at": func.now(),
    }
    if to != PromotionState.rolling_out:
        changes["finished_at"] = func.now()
    if to in (PromotionState.refused, PromotionState.failed):
        changes["probe_token"] = None
    return changes


def _serve(watch: Watch, case: Case, promotion: Promotion) -> Look:
    """Deploy the promotion's bundle under the endpoint's name, and ask who answers there."""
    digest = promotion.bundle_digest
    request = deployment_request(
        _named(case),
        bundle_prefix(digest),
        store_url=_project_store(watch, case).url,
        token_hashes=None if case.endpoint.public else case.token_hashes,
    )
    seen = _deploy(watch, case, request)
    if seen is None or seen.url is None:
        return Look(None, None, (seen and seen.reason) or "the servers are starting")
    try:
        serving = classify(seen.url, PROBE, token=promotion.probe_token).bundle
    except (NoAnswerError, PictureRefusedError) as error:
        return Look(None, seen.url, seen.reason or str(error))
    if serving != digest:
        return Look(serving, seen.url, seen.reason or f"bundle {serving[:12]} still answers")
    if not seen.ready or seen.digest != digest:
        return Look(serving, seen.url, seen.reason or "not all servers are ready")
    # The cluster may have refused the newest change, such as another size.
    return Look(serving, seen.url, seen.reason, ready=True)


def _deploy(watch: Watch, case: Case, request: DeploymentRequest) -> SeenDeployment | None:
    _hold(watch, case)
    watch.cluster.deploy(request)
    return watch.cluster.deployment(request.name)


def _undeploy(watch: Watch, case: Case, name: str) -> None:
    _hold(watch, case)
    watch.cluster.undeploy(name)


def _hold(watch: Watch, case: Case) -> None:
    """Refuse to act on a claim that may run out during the call; raises LostClaimError."""
    with watch.database.transaction() as session:
        if not leases.holds(session, case.endpoint, at_least=watch.settings.call_deadline):
            raise LostClaimError


def _named(case: Case) -> Named:
    endpoint = case.endpoint
    return Named(
        _endpoint_name(case),
        title=f"endpoint {endpoint.name}",
        project=case.project,
        replicas=endpoint.replicas,
        most_replicas=endpoint.most_replicas,
        cpu=endpoint.cpu,
        memory=endpoint.memory,
    )


def _candidate(case: Case, promotion: Promotion) -> Named:
    # One server, as big as those that will answer: what it cannot do, they cannot.
    return Named(
        candidate_deployment(promotion.id),
        title=f"candidate of promotion {promotion.number} to endpoint {case.endpoint.name}",
        project=case.project,
        cpu=case.endpoint.cpu,
        memory=case.endpoint.memory,
    )


def _endpoint_name(case: Case) -> str:
    return endpoint_deployment(case.endpoint.name, case.endpoint.id)


def _project_store(watch: Watch, case: Case) -> Store:
    return below_project(watch.store, case.endpoint.project_id)
