//! EC2's Query API and the instance metadata service: shapes, clients, errors.
