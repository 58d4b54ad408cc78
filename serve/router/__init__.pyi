from .supervisor import supervise as supervise
