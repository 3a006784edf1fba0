"""API tokens, authorities, enrolments, credentials of nodes, people: hashes and wrapped keys only, never a secret."""

from __future__ import annotations

from typing import Final

from mirror_agent.contract import NodeName

from shared.model.client_credential import ClientCredential
from shared.model.principal import ApiToken, ClusterAuthority, Enrolment, NodeCredential
from shared.store.ports import MAX_PAGE, Page, Versioned
from shared.store.rows import Row, Rows, document, parse, parse_all

TOKENS: Final = "tokens"
CREDENTIALS: Final = "credentials"
_TOKEN: Final = "token"
_AUTHORITY: Final = "authority"
_CLIENT: Final = "client-"


class TableTokens:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def get(self, token_id: str) -> ApiToken | None:
        row = await self._rows.get(TOKENS, _TOKEN, token_id)
        return None if row is None else parse(ApiToken, row)

    async def create(self, token: ApiToken) -> None:
        await self._rows.insert(TOKENS, Row(_TOKEN, token.id, document(token)))

    async def page(self, after: str | None, limit: int) -> Page[ApiToken]:
        rows = await self._rows.scan(TOKENS, _TOKEN, limit + 1, after=after or "")
        more = rows[limit - 1].key if len(rows) > limit else None
        return Page(tuple(token for token, _ in parse_all(ApiToken, rows[:limit])), more)

    async def delete(self, token_id: str) -> None:
        await self._rows.delete(TOKENS, _TOKEN, [token_id])


class TableCredentials:
    """Partition = cluster id, so that everything of a deleted cluster is found and removed together."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def authority(self, cluster_id: str, authority_id: str = "") -> ClusterAuthority | None:
        row = await self._rows.get(CREDENTIALS, cluster_id, _authority_key(authority_id))
        return None if row is None else parse(ClusterAuthority, row)

    async def authorities(self, cluster_id: str) -> list[Versioned[ClusterAuthority]]:
        rows = await self._rows.scan(CREDENTIALS, cluster_id, MAX_PAGE, after="authorit", before=f"{_AUTHORITY}~")
        return [Versioned(authority, row.etag) for authority, row in parse_all(ClusterAuthority, rows)]

    async def create_authority(self, authority: ClusterAuthority) -> None:
        await self._rows.insert(CREDENTIALS, _authority_row(authority))

    async def replace_authority(self, authority: ClusterAuthority, etag: str) -> None:
        await self._rows.replace(CREDENTIALS, _authority_row(authority), etag)

    async def delete_authority(self, cluster_id: str, authority_id: str) -> None:
        await self._rows.delete(CREDENTIALS, cluster_id, [_authority_key(authority_id)])

    async def enrolment(self, cluster_id: str, enrolment_id: str) -> Versioned[Enrolment] | None:
        row = await self._rows.get(CREDENTIALS, cluster_id, f"enrolment-{enrolment_id}")
        return None if row is None else Versioned(parse(Enrolment, row), row.etag)

    async def create_enrolment(self, enrolment: Enrolment) -> None:
        await self._rows.insert(CREDENTIALS, _enrolment_row(enrolment))

    async def replace_enrolment(self, enrolment: Enrolment, etag: str) -> None:
        await self._rows.replace(CREDENTIALS, _enrolment_row(enrolment), etag)

    async def client(self, cluster_id: str, credential_id: str) -> Versioned[ClientCredential] | None:
        row = await self._rows.get(CREDENTIALS, cluster_id, f"{_CLIENT}{credential_id}")
        return None if row is None else Versioned(parse(ClientCredential, row), row.etag)

    async def clients(self, cluster_id: str) -> list[ClientCredential]:
        rows = await self._rows.scan(CREDENTIALS, cluster_id, MAX_PAGE, after=_CLIENT, before=f"{_CLIENT}~")
        return [credential for credential, _ in parse_all(ClientCredential, rows)]

    async def put_client(self, credential: ClientCredential, etag: str | None) -> None:
        row = Row(credential.cluster_id, f"{_CLIENT}{credential.id}", document(credential))
        await (self._rows.insert(CREDENTIALS, row) if etag is None else self._rows.replace(CREDENTIALS, row, etag))

    async def delete_client(self, cluster_id: str, credential_id: str) -> None:
        await self._rows.delete(CREDENTIALS, cluster_id, [f"{_CLIENT}{credential_id}"])

    async def credential(self, cluster_id: str, node: NodeName) -> Versioned[NodeCredential] | None:
        row = await self._rows.get(CREDENTIALS, cluster_id, f"node-{node}")
        return None if row is None else Versioned(parse(NodeCredential, row), row.etag)

    async def put_credential(self, credential: NodeCredential, etag: str | None) -> None:
        row = Row(credential.cluster_id, f"node-{credential.node}", document(credential))
        if etag is None:
            await self._rows.insert(CREDENTIALS, row)
        else:
            await self._rows.replace(CREDENTIALS, row, etag)


def _authority_key(authority_id: str) -> str:
    return f"{_AUTHORITY}-{authority_id}" if authority_id else _AUTHORITY


def _authority_row(authority: ClusterAuthority) -> Row:
    return Row(authority.cluster_id, _authority_key(authority.id), document(authority))


def _enrolment_row(enrolment: Enrolment) -> Row:
    return Row(enrolment.cluster_id, f"enrolment-{enrolment.id}", document(enrolment))
