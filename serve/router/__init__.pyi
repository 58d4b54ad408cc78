from .cluster import serve_on_cluster as serve_on_cluster
from .supervisor import supervise as supervise
