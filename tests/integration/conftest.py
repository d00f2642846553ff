"""Fixtures that several modules need."""

from tests.integration.browser import chromium as chromium
from tests.integration.browser import open_page as open_page
from tests.integration.launched import launch as launch
from tests.integration.ray_nodes import cluster as cluster
from tests.integration.ray_nodes import head as head
