//! Where a test may have the plugin killed: before and after each step that leaves something behind or tells somebody. All of this is
//! nothing unless the feature `failpoints` is on, which no shipped program has.

use vpc_linux::WireStep;
use vpc_wire::tombstone::NoteStep;

vpc_failpoint::points! { "aws-cni":
    /// The plugin's failpoints, in the order of a call.
    pub(crate) enum Point {
        /// A call has come and is understood.
        Begin = "begin",
        /// ADD: the pod's namespace is open, nobody was asked.
        AddBeforeConnect = "add-before-connect",
        /// ADD: connected to the daemon, nothing asked.
        AddBeforeAsk = "add-before-ask",
        /// ADD: the daemon has answered.
        AddAfterAsk = "add-after-ask",
        /// ADD: nothing is wired.
        WireBeforeEnterPod = "wire-before-enter-pod",
        /// ADD: a host link of the same name may be there.
        WireBeforeRemoveLeftover = "wire-before-remove-leftover",
        /// ADD: the pair of links is about to be made, its pod end in the pod's namespace at once.
        WireBeforeCreateVeth = "wire-before-create-veth",
        /// ADD: the pair is there.
        WireBeforeHarden = "wire-before-harden",
        /// ADD: nothing inside the pod is set up.
        WireBeforeConfigurePod = "wire-before-configure-pod",
        /// ADD: all inside the pod is set up, nothing on the host.
        WireBeforeConfigureHost = "wire-before-configure-host",
        /// ADD: routes and rules are there.
        WireDone = "wire-done",
        /// ADD: the result is about to be told.
        AddBeforeResult = "add-before-result",
        /// ADD: the result is told.
        AddAfterResult = "add-after-result",
        /// A failed ADD: the wiring is about to be undone.
        UndoBeforeUnwire = "undo-before-unwire",
        /// A failed ADD: the address is about to be given back.
        UndoBeforeRelease = "undo-before-release",
        /// A failed ADD: the address is given back.
        UndoAfterRelease = "undo-after-release",
        /// DEL: an address of the previous result is about to be untied.
        DelBeforeUntie = "del-before-untie",
        /// DEL: it is untied.
        DelAfterUntie = "del-after-untie",
        /// DEL: the daemon is about to be asked.
        DelBeforeAsk = "del-before-ask",
        /// DEL: the daemon has answered.
        DelAfterAsk = "del-after-ask",
        /// DEL: what the daemon told is about to be untied.
        DelBeforeUntieTold = "del-before-untie-told",
        /// DEL: all is done, and nobody knows.
        DelBeforeEnd = "del-before-end",
        /// DEL without a daemon: no note is written.
        NoteBeforeWrite = "note-before-write",
        /// DEL without a daemon: the note is written under another name.
        NoteBeforeRename = "note-before-rename",
        /// DEL without a daemon: the note is there.
        NoteDone = "note-done",
    }
}

impl From<WireStep> for Point {
    fn from(before: WireStep) -> Self {
        match before {
            WireStep::EnterPod => Self::WireBeforeEnterPod,
            WireStep::RemoveLeftover => Self::WireBeforeRemoveLeftover,
            WireStep::CreateVeth => Self::WireBeforeCreateVeth,
            WireStep::Harden => Self::WireBeforeHarden,
            WireStep::ConfigurePod => Self::WireBeforeConfigurePod,
            WireStep::ConfigureHost => Self::WireBeforeConfigureHost,
        }
    }
}

impl From<NoteStep> for Point {
    fn from(step: NoteStep) -> Self {
        match step {
            NoteStep::Write => Self::NoteBeforeWrite,
            NoteStep::Rename => Self::NoteBeforeRename,
            NoteStep::Done => Self::NoteDone,
        }
    }
}
