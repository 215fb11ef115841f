"""Servers that no endpoint and no check asks for any more: a worker that stalled made them."""

from sqlalchemy import select

from api.cluster.protocol import Cluster
from api.database import Database
from api.promotion.deployments import candidate_deployment, endpoint_deployment
from api.promotion.states import PromotionState
from api.tables import Endpoint, Promotion


def remove_strays(database: Database, cluster: Cluster) -> list[str]:
    """Compare all that is deployed with the rows; take away what has no right to be there."""
    # The cluster first: a row is there before anything is deployed for it. And no name comes back,
    # as it is made from an id: what is a stray once is one for ever.
    deployed = set(cluster.deployments())
    with database.transaction() as session:
        endpoints = session.execute(select(Endpoint.name, Endpoint.id)).all()
        checking = select(Promotion.id).where(Promotion.state == PromotionState.checking)
        checked = session.scalars(checking).all()
    wanted = {
        *(endpoint_deployment(name, endpoint_id) for name, endpoint_id in endpoints),
        *(candidate_deployment(promotion_id) for promotion_id in checked),
    }
    removed = sorted(deployed - wanted)
    for name in removed:
        cluster.undeploy(name)
    return removed
