//! What other programs read and write: CNI documents, the gRPC contract, the checkpoint file.
