//! What travels between processes: the wasmatrix.v1 protobuf and its conversion from and to the model.
