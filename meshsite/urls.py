"""Django's pages: the console, its small API and the admin."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("", include("nodes.urls")),
]

handler400 = "nodes.views.bad_request"
handler403 = "nodes.views.forbidden"
handler404 = "nodes.views.not_found"
handler500 = "nodes.views.server_error"
