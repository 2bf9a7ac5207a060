"""Every token library whose verification is observed."""

from __future__ import annotations

from . import authlib, joserfc, pyjwt, python_jose, watch


def install() -> None:
    """Hook into all of them; a library that the app never imports costs nothing."""
    watch.install((*pyjwt.HOOKS, *joserfc.HOOKS, *authlib.HOOKS, *python_jose.HOOKS))
    pyjwt.install()
