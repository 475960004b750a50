//! State vectors: how much of each client's history a client has.

use crate::validate::{CLOCK_END, StateVector, ValidationError, read_client};
use crate::wire::varint::Reader;

/// Walks a state vector.
///
/// The result is ordered, because yrs keeps client ids in a hash map that chosen ids make
/// quadratic: hand on only the entries of clients that the document knows.
pub fn walk_state_vector(bytes: &[u8]) -> Result<StateVector, ValidationError> {
    let mut reader = Reader::new(bytes);
    let mut clocks = StateVector::new();
    for _ in 0..reader.count(2)? {
        let client = read_client(&mut reader)?;
        let clock = reader.var_uint_max(CLOCK_END - 1)?;
        if clocks.insert(client, clock).is_some() {
            return Err(ValidationError::RepeatedClient { client });
        }
    }
    match reader.remaining() {
        0 => Ok(clocks),
        left => Err(ValidationError::TrailingBytes { offset: reader.position(), left }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ClientId;
    use crate::wire::varint::ReadError;

    #[test]
    fn valid_23_a_state_vector_lists_each_client_once_in_bounds() {
        let client = ClientId::new(2).unwrap();
        assert_eq!(walk_state_vector(&[0]), Ok(StateVector::new()));
        assert_eq!(walk_state_vector(&[1, 2, 5]), Ok(StateVector::from([(client, 5)])));
        assert_eq!(
            walk_state_vector(&[2, 2, 5, 2, 6]),
            Err(ValidationError::RepeatedClient { client })
        );
        assert_eq!(
            walk_state_vector(&[0, 9]),
            Err(ValidationError::TrailingBytes { offset: 1, left: 1 })
        );
        assert!(matches!(
            walk_state_vector(&[128, 132, 175, 95]),
            Err(ValidationError::Unreadable(ReadError::CountTooLarge { count: 200_000_000, .. }))
        ));
        assert!(matches!(
            walk_state_vector(&[1, 1, 0x80, 0x80, 0x80, 0x80, 8]),
            Err(ValidationError::Unreadable(ReadError::TooLarge { .. }))
        ));
        assert!(walk_state_vector(&[]).is_err());
    }
}
