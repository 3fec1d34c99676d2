//! The ICE sessions of one WebRTC session (RFC 8445 section 9): the one in use and, while the client restarts, the one that is to
//! replace it. Sans-I/O.
//!
//! Two at the most answer checks: a further restart takes the place of one that has not nominated a path yet. So whatever a client
//! asks for, and in whatever order its requests come, a session has two user name fragments in the table.

use std::sync::Arc;

use sluice_signaling::ice::IceCredentials;

/// One ICE session: what its checks are known and signed by.
#[derive(Debug)]
pub struct IceSession {
    /// 0 is the first one; each restart has the next number.
    pub number: u32,
    pub local: IceCredentials,
    pub remote: IceCredentials,
}

impl IceSession {
    /// That of the offer and the answer.
    pub fn first(local: IceCredentials, remote: IceCredentials) -> Self {
        Self { number: 0, local, remote }
    }
}

/// A restart with credentials that the client had before: its request was overtaken by a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these ICE credentials are of an ICE session that was restarted since")]
pub struct Overtaken;

/// A restart that has begun.
#[derive(Debug)]
pub struct Restarted {
    pub begun: Arc<IceSession>,
    /// One under way that it replaces: its checks are not to be answered any more.
    pub given_up: Option<Arc<IceSession>>,
}

#[derive(Debug)]
pub struct IceSessions {
    in_use: Arc<IceSession>,
    restarting: Option<Arc<IceSession>>,
    /// The client's credentials before its present ones.
    earlier_remote: Option<IceCredentials>,
}

impl IceSessions {
    pub fn new(first: Arc<IceSession>) -> Self {
        Self { in_use: first, restarting: None, earlier_remote: None }
    }

    /// The one that signalling speaks about: begun last.
    pub fn present(&self) -> &Arc<IceSession> {
        self.restarting.as_ref().unwrap_or(&self.in_use)
    }

    /// All whose checks are answered.
    pub fn answering(&self) -> impl Iterator<Item = &Arc<IceSession>> {
        std::iter::once(&self.in_use).chain(&self.restarting)
    }

    /// The client has new credentials; ours are `local`. With those of the restart under way it asks for the same one again, because it
    /// was not answered.
    ///
    /// # Errors
    /// [`Overtaken`] when they are not new.
    pub fn restart(&mut self, local: IceCredentials, remote: IceCredentials) -> Result<Restarted, Overtaken> {
        if let Some(begun) = self.restarting.as_ref().filter(|session| session.remote == remote) {
            return Ok(Restarted { begun: begun.clone(), given_up: None });
        }
        if self.earlier_remote.as_ref() == Some(&remote) || self.answering().any(|session| session.remote == remote) {
            return Err(Overtaken);
        }
        let present = self.present();
        let begun = Arc::new(IceSession { number: present.number + 1, local, remote });
        self.earlier_remote = Some(present.remote.clone());
        let given_up = self.restarting.replace(begun.clone());
        Ok(Restarted { begun, given_up })
    }

    /// A check of this ICE session has nominated a path. Gives the one that it replaces, if it was restarting.
    pub fn nominated(&mut self, number: u32) -> Option<Arc<IceSession>> {
        let restarted = self.restarting.take_if(|session| session.number == number)?;
        Some(std::mem::replace(&mut self.in_use, restarted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> IceSessions {
        IceSessions::new(Arc::new(IceSession::first(IceCredentials::random(), IceCredentials::random())))
    }

    fn restart(sessions: &mut IceSessions) -> Restarted {
        sessions.restart(IceCredentials::random(), IceCredentials::random()).unwrap()
    }

    fn numbers(sessions: &IceSessions) -> Vec<u32> {
        sessions.answering().map(|session| session.number).collect()
    }

    #[test]
    fn both_answer_until_the_restart_has_nominated() {
        let mut sessions = sessions();
        assert!(sessions.nominated(0).is_none(), "nothing changes while nothing restarts");
        let Restarted { begun, given_up } = restart(&mut sessions);
        assert!(given_up.is_none());
        assert_eq!(numbers(&sessions), [0, 1]);
        assert_eq!(sessions.present().local, begun.local);
        assert!(sessions.nominated(0).is_none(), "the old pair is nominated again and again");
        assert_eq!(sessions.nominated(1).map(|replaced| replaced.number), Some(0));
        assert_eq!(numbers(&sessions), [1]);
        assert!(sessions.nominated(1).is_none());
    }

    #[test]
    fn a_further_restart_replaces_the_one_under_way_and_never_the_one_in_use() {
        let mut sessions = sessions();
        for number in 1..100 {
            let Restarted { begun, given_up } = restart(&mut sessions);
            assert_eq!(begun.number, number);
            assert_eq!(given_up.map(|session| session.number), (number > 1).then_some(number - 1));
            assert_eq!(numbers(&sessions), [0, number]);
        }
        assert!(sessions.nominated(98).is_none(), "given up: its check was on its way");
        assert_eq!(sessions.nominated(99).map(|replaced| replaced.number), Some(0));
    }

    #[test]
    fn a_restart_that_is_asked_for_again_is_the_same_one_until_it_has_nominated() {
        let mut sessions = sessions();
        let begun = restart(&mut sessions).begun;
        let mut again = || sessions.restart(IceCredentials::random(), begun.remote.clone());
        let Restarted { begun: same, given_up } = again().unwrap();
        assert_eq!((same.number, &same.local, given_up.is_none()), (1, &begun.local, true));
        assert_eq!(again().unwrap().begun.number, 1);
        assert_eq!(numbers(&sessions), [0, 1]);
        sessions.nominated(1);
        assert_eq!(sessions.restart(IceCredentials::random(), begun.remote.clone()).unwrap_err(), Overtaken);
    }

    #[test]
    fn credentials_of_before_restart_nothing() {
        let mut sessions = sessions();
        let first = sessions.present().remote.clone();
        let second = restart(&mut sessions).begun.remote.clone();
        assert_eq!(sessions.restart(IceCredentials::random(), first.clone()).unwrap_err(), Overtaken);
        sessions.nominated(1);
        assert_eq!(sessions.restart(IceCredentials::random(), first).unwrap_err(), Overtaken);
        assert_eq!(sessions.restart(IceCredentials::random(), second).unwrap_err(), Overtaken);
        assert_eq!(numbers(&sessions), [1]);
    }
}
