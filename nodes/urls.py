"""The console's addresses."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from nodes import views
from nodes.chat_view import chat
from nodes.join_view import tokens
from nodes.requests_view import charts, requests

app_name = "console"

urlpatterns = [
    path("", views.page, name="page"),
    path("login", LoginView.as_view(template_name="console/login.html"), name="login"),
    path("logout", views.leave, name="leave"),
    path("accounts/logout", LogoutView.as_view(), name="logout"),
    path("operator/<str:code>", views.operator, name="operator"),
    path("favicon.ico", views.favicon),
    path("health", views.health),
    path("metrics", views.metrics),
    path("api/status", views.status),
    path("api/events", views.events),
    path("api/logs/<path:model>", views.logs),
    path("api/token", views.token),
    path("api/tokens", tokens),
    path("api/operator-link", views.operator_link),
    path("api/actions", views.actions),
    path("api/servable", views.servable),
    path("api/why", views.why),
    path("api/requests", requests),
    path("api/charts", charts),
    path("api/render", views.render_text),
    path("api/chat", chat),
]
