"""The WSGI app, with alice among its people."""

from __future__ import annotations

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

from django.contrib.auth.models import User  # noqa: E402  only now can models be imported

call_command("migrate", verbosity=0)
if not User.objects.exists():
    User.objects.create_user("alice", password="secret")
