//! H.264 (ITU-T H.264): NAL units, parameter sets, the order of pictures.
//! Sans-I/O. Nothing here decodes samples.

mod avcc;
pub mod depacketize;
pub(super) mod escape;
pub mod nal;
mod order;
pub mod parameter_sets;
mod sets;
mod slice;
mod x264;

pub(super) use avcc::write_record;
pub use avcc::{BadDecoderConfiguration, DecoderConfiguration};
pub use order::{DisplayOrder, Verdict};
pub use sets::ParameterSets;
pub use x264::X264Settings;
