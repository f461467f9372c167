"""All routes of the account APIs."""

from starlette.routing import Route

from tristrata.router.accounts.desk import AccountDesk
from tristrata.router.accounts.keys import KeysApi
from tristrata.router.accounts.registrations import RegistrationsApi
from tristrata.router.accounts.sessions import SessionsApi
from tristrata.router.accounts.sign_in import SignInApi
from tristrata.router.accounts.usage import UsageApi
from tristrata.router.accounts.vouchers import VouchersApi


def account_routes(desk: AccountDesk) -> list[Route]:
    """What is served of accounts."""
    apis = (RegistrationsApi, SignInApi, KeysApi, SessionsApi, VouchersApi, UsageApi)
    return [route for api in apis for route in api(desk).routes]
