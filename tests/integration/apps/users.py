"""fastapi-users with integer ids, JWTs as bearer tokens and in a cookie, and people in memory."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, IntegerIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, CookieTransport, JWTStrategy
from fastapi_users.db import BaseUserDatabase

SECRET = "0123456789abcdef0123456789abcdef"
log = logging.getLogger("users")
log.setLevel(logging.INFO)


@dataclass
class User:
    id: int
    email: str
    hashed_password: str
    is_active: bool = True
    is_superuser: bool = False
    is_verified: bool = True


class UserRead(schemas.BaseUser[int]):
    pass


class UserCreate(schemas.BaseUserCreate):
    pass


class Database(BaseUserDatabase[User, int]):
    people: dict[int, User] = {}  # noqa: RUF012  shared on purpose: it is the database

    async def get(self, id: int) -> User | None:  # noqa: A002  the library's name
        return self.people.get(id)

    async def get_by_email(self, email: str) -> User | None:
        return next((user for user in self.people.values() if user.email == email), None)

    async def create(self, create_dict: dict[str, Any]) -> User:
        user = User(id=len(self.people) + 1, **create_dict)
        self.people[user.id] = user
        return user


class Manager(IntegerIDMixin, BaseUserManager[User, int]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


async def manager() -> AsyncIterator[Manager]:
    yield Manager(Database())


def strategy() -> JWTStrategy[User, int]:
    return JWTStrategy(secret=SECRET, lifetime_seconds=600)


bearer = AuthenticationBackend("bearer", BearerTransport(tokenUrl="auth/login"), strategy)
cookie = AuthenticationBackend("cookie", CookieTransport(cookie_secure=False), strategy)
users = FastAPIUsers[User, int](manager, [bearer, cookie])
app = FastAPI()
app.include_router(users.get_auth_router(bearer), prefix="/auth")
app.include_router(users.get_auth_router(cookie), prefix="/cookie")
app.include_router(users.get_register_router(UserRead, UserCreate))


@app.get("/me")
async def me(user: Annotated[User, Depends(users.current_user())]) -> dict[str, int]:
    log.info("served person %d", user.id)
    return {"person": user.id}
