"""The API server: one module of transport, and on it an informer and a
lease that both shells use.
"""
