//! Where a test may have the daemon killed: before and after each step that leaves something behind, and before each answer. All of this
//! is nothing unless the feature `failpoints` is on, which no shipped program has.

use vpc_aws::hand::Request;
use vpc_wire::checkpoint::StoreStep;

const PROGRAM: &str = "aws-k8s-agent";

vpc_failpoint::points! { "aws-k8s-agent":
    /// The daemon's failpoints.
    pub enum Point {
        /// The calendar is asked for.
        Clock = "clock",
        /// Start: this is the only daemon of the node.
        StartAlone = "start-alone",
        /// Start: nothing of the last run was read.
        StartBeforeRecall = "start-before-recall",
        /// Start: checkpoint and kernel were read, the calendar is about to be noted.
        StartBeforeNote = "start-before-note",
        /// Start: the calendar is noted.
        StartAfterRecall = "start-after-recall",
        /// Start: the metadata are known.
        StartAfterMetadata = "start-after-metadata",
        /// Start: the agent exists, the socket does not.
        StartBeforeListen = "start-before-listen",
        /// Start: the socket is there.
        StartAfterListen = "start-after-listen",
        /// The conflist is about to be written under another name.
        ConflistBeforeWrite = "conflist-before-write",
        /// The conflist is about to get its name.
        ConflistBeforeRename = "conflist-before-rename",
        /// The conflist is there.
        ConflistDone = "conflist-done",
        /// Checkpoint: no file is made.
        CheckpointBeforeMake = "checkpoint-before-make",
        /// Checkpoint: the temporary file is empty.
        CheckpointBeforeWrite = "checkpoint-before-write",
        /// Checkpoint: it is written, not on disk.
        CheckpointBeforeSync = "checkpoint-before-sync",
        /// Checkpoint: it is on disk under its temporary name.
        CheckpointBeforeRename = "checkpoint-before-rename",
        /// Checkpoint: it has its name.
        CheckpointBeforeSyncFolder = "checkpoint-before-sync-folder",
        /// Checkpoint: it is on disk, nobody knows.
        CheckpointDone = "checkpoint-done",
        /// An AddNetwork has come.
        AddReceived = "add-received",
        /// An AddNetwork is decided, and the caller not told.
        AddBeforeReply = "add-before-reply",
        /// A DelNetwork has come.
        DelReceived = "del-received",
        /// A DelNetwork is decided, and the caller not told.
        DelBeforeReply = "del-before-reply",
        /// A note of a DEL is read.
        NoteRead = "note-read",
        /// What a note says is done, the note is there.
        NoteBeforeForget = "note-before-forget",
        /// A note is gone.
        NoteForgotten = "note-forgotten",
        /// EC2 is about to be sent AssignPrivateIpAddresses.
        Ec2BeforeAssign = "ec2-before-assign",
        /// EC2 has answered AssignPrivateIpAddresses, and nothing was made of it.
        Ec2AfterAssign = "ec2-after-assign",
        /// EC2 is about to be sent AttachNetworkInterface.
        Ec2BeforeAttach = "ec2-before-attach",
        /// EC2 has answered AttachNetworkInterface, and nothing was made of it.
        Ec2AfterAttach = "ec2-after-attach",
        /// EC2 is about to be sent CreateNetworkInterface.
        Ec2BeforeCreate = "ec2-before-create",
        /// EC2 has answered CreateNetworkInterface, and nothing was made of it.
        Ec2AfterCreate = "ec2-after-create",
        /// EC2 is about to be sent CreateTags.
        Ec2BeforeTag = "ec2-before-tag",
        /// EC2 has answered CreateTags, and nothing was made of it.
        Ec2AfterTag = "ec2-after-tag",
        /// EC2 is about to be sent DeleteNetworkInterface.
        Ec2BeforeDelete = "ec2-before-delete",
        /// EC2 has answered DeleteNetworkInterface, and nothing was made of it.
        Ec2AfterDelete = "ec2-after-delete",
        /// EC2 is about to be sent DetachNetworkInterface.
        Ec2BeforeDetach = "ec2-before-detach",
        /// EC2 has answered DetachNetworkInterface, and nothing was made of it.
        Ec2AfterDetach = "ec2-after-detach",
        /// EC2 is about to be sent ModifyNetworkInterfaceAttribute.
        Ec2BeforeModify = "ec2-before-modify",
        /// EC2 has answered ModifyNetworkInterfaceAttribute, and nothing was made of it.
        Ec2AfterModify = "ec2-after-modify",
        /// EC2 is about to be sent UnassignPrivateIpAddresses.
        Ec2BeforeUnassign = "ec2-before-unassign",
        /// EC2 has answered UnassignPrivateIpAddresses, and nothing was made of it.
        Ec2AfterUnassign = "ec2-after-unassign",
        /// EC2 is about to be asked something that changes nothing.
        Ec2BeforeRead = "ec2-before-read",
        /// EC2 has answered something that changed nothing.
        Ec2AfterRead = "ec2-after-read",
        /// The metadata are about to be read.
        MetadataBeforeRead = "metadata-before-read",
        /// The metadata are read.
        MetadataAfterRead = "metadata-after-read",
        /// The host is about to be looked at.
        HostBeforeObserve = "host-before-observe",
        /// The host is about to be changed.
        HostBeforeApply = "host-before-apply",
        /// The host is changed, the agent does not know.
        HostAfterApply = "host-after-apply",
        /// Links of sandboxes that have ended are about to be removed.
        HostBeforeUnlink = "host-before-unlink",
        /// They are gone, the agent does not know.
        HostAfterUnlink = "host-after-unlink",
        /// Connections of rested addresses are about to be forgotten.
        HostBeforeFlush = "host-before-flush",
        /// They are forgotten.
        HostAfterFlush = "host-after-flush",
        /// Asked to end.
        EndAsked = "end-asked",
        /// All has ended but the socket's file.
        EndBeforeRemoveSocket = "end-before-remove-socket",
    }
}

/// What the calendar is off by, in seconds.
pub(crate) fn calendar_is_off_by() -> i64 {
    vpc_failpoint::clock_is_off_by(PROGRAM, || Point::Clock.name())
}

/// Before a request is sent, and after its answer has come.
pub(crate) fn around(request: &Request) -> (Point, Point) {
    match request {
        Request::AssignPrivateIpAddresses(_) => (Point::Ec2BeforeAssign, Point::Ec2AfterAssign),
        Request::AttachNetworkInterface(_) => (Point::Ec2BeforeAttach, Point::Ec2AfterAttach),
        Request::CreateNetworkInterface(_) => (Point::Ec2BeforeCreate, Point::Ec2AfterCreate),
        Request::CreateTags(_) => (Point::Ec2BeforeTag, Point::Ec2AfterTag),
        Request::DeleteNetworkInterface(_) => (Point::Ec2BeforeDelete, Point::Ec2AfterDelete),
        Request::DetachNetworkInterface(_) => (Point::Ec2BeforeDetach, Point::Ec2AfterDetach),
        Request::ModifyNetworkInterfaceAttribute(_) => (Point::Ec2BeforeModify, Point::Ec2AfterModify),
        Request::UnassignPrivateIpAddresses(_) => (Point::Ec2BeforeUnassign, Point::Ec2AfterUnassign),
        Request::DescribeInstanceTypes(_) | Request::DescribeNetworkInterfaces(_) | Request::DescribeSubnets(_) => {
            (Point::Ec2BeforeRead, Point::Ec2AfterRead)
        }
    }
}

impl From<StoreStep> for Point {
    fn from(step: StoreStep) -> Self {
        match step {
            StoreStep::Make => Self::CheckpointBeforeMake,
            StoreStep::Write => Self::CheckpointBeforeWrite,
            StoreStep::Sync => Self::CheckpointBeforeSync,
            StoreStep::Rename => Self::CheckpointBeforeRename,
            StoreStep::SyncFolder => Self::CheckpointBeforeSyncFolder,
            StoreStep::Done => Self::CheckpointDone,
        }
    }
}
