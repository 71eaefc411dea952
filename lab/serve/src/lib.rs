//! The lab's cloud on the wire: EC2 Query API and IMDSv2.
