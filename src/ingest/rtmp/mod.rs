mod amf;
mod chunk;
mod clock;
mod flv;
