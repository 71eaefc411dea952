//! placeholder
pub struct PaperHost;
pub struct PaperPod;
pub struct PaperRefusal;
