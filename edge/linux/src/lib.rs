//! The Linux kernel: rtnetlink, nf_tables, namespaces, sysctls.
