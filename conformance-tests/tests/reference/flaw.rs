//! The seeded bugs.

/// One broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flaw {
    /// Whoever releases frees the key.
    ReleaseIgnoresToken,
    /// Whoever keeps renews, and owns it then.
    KeepIgnoresToken,
    /// The store shows another token than the one that holds.
    ShowsToken,
    /// A renewed lease begins in the future.
    KeepSinceFuture,
    /// An attempt that comes again after its lease has ended is taken for a repeat.
    RepeatAfterExpiry,
    /// Keys of more than 255 bytes are refused when they arrive.
    LongKeysRefused,
    /// All are told that one stands before them.
    LineAheadWrong,
    /// Leases never end.
    ExpiryIgnored,
    /// A cleanup forgets how far fences were.
    FenceResetsOnPurge,
    /// The fence is drawn before the lock is won.
    FenceDrawnFirst,
    /// A keep brings an expired lock back.
    KeepRevives,
    /// Looking and taking are two steps.
    CheckThenInsert,
    /// Keys are compared without case.
    FoldsCase,
    /// Keys are compared without spaces at the end.
    TrimsKeys,
    /// Only the first 255 bytes of a key count.
    CutsKeys,
    /// The lease counts from when the reply came.
    LeaseFromReceipt,
    /// The hint is armed a little after the watch has returned.
    WatchArmedLate,
    /// A keep of nothing says that it was renewed.
    KeepSaysRenewed,
    /// A force unlock forgets how far fences were.
    FenceResetsOnEvict,
    /// A release forgets how far fences were.
    FenceResetsOnRelease,
    /// The end of a lease forgets how far fences were.
    FenceResetsOnExpiry,
    /// A force unlock removes the record, and leaves the next fence to the clock alone.
    EvictLeavesFenceToClock,
    /// The end of a lease removes the record, and leaves the next fence to the clock alone.
    ExpiryLeavesFenceToClock,
    /// Fences count from one for each new record.
    FenceWithoutClock,
    /// Looking re-arms the lease.
    InspectWrites,
    /// Looking at a key makes a record of it.
    InspectTakes,
    /// Looking shows a lease that is over.
    InspectShowsExpired,
    /// A dropped attempt goes on by itself.
    AttemptOutlivesDrop,
    /// A repeated attempt draws another fence.
    RepeatGivesNewFence,
    /// A repeated attempt is refused, as if it were another's.
    RepeatRefused,
    /// A repeated attempt tells a new lease but leaves the old one running.
    RepeatKeepsOldLease,
    /// An attempt that comes again after its release is taken for a repeat.
    RepeatAfterRelease,
    /// The floor of a fence is ignored.
    FloorIgnored,
    /// A cleanup deletes what lives.
    PurgeDeletesLive,
    /// A listing loses the last item of a full page.
    ListMisses,
    /// A listing shows what is free.
    ListShowsFree,
    /// A listing takes `_` and `%` as wildcards.
    ListHasWildcards,
    /// A listing finds its prefix anywhere in a key.
    ListFindsInside,
    /// A listing is ordered without case.
    ListUnordered,
    /// Release does not leave the line.
    LineForgetsRelease,
    /// Asking again goes to the end of the line.
    LineLosesPlace,
    /// The dead stay in line.
    LineKeepsDead,
    /// A keep does not refresh a place in line.
    LineIgnoresKeep,
    /// A newcomer may overtake the line.
    LineOvertaken,
    /// The last in line is served first.
    LineBackwards,
    /// Nobody knows how many wait.
    LineUncounted,
    /// The TTL asked for is ignored: a minute for all.
    TtlIgnored,
    /// The store runs no lease longer than an hour.
    LongTtlCut,
    /// The TTL of a keep is ignored.
    KeepIgnoresTtl,
    /// A keep changes nothing.
    KeepDoesNothing,
    /// Locks are freed when four fifths of the lease are over.
    FreesEarly,
    /// The smallest TTL is granted in the answer only.
    SmallTtlUntold,
    /// Every release says that it released.
    ReleaseAlwaysReleased,
    /// Force unlock tells nobody, and every release says that it released.
    LossHidden,
    /// A release does nothing.
    ReleaseDoesNothing,
    /// A release deletes what it does not find, for the next to stumble over.
    ReleaseOfNothingBlocks,
    /// An attempt at a held key waits inside.
    AttemptWaits,
    /// All keys are one lock.
    OneLock,
    /// Every attempt is granted.
    NoExclusion,
    /// Keep answers in another order.
    KeepUnordered,
    /// Peek answers in another order.
    PeekUnordered,
    /// Force unlock tells nobody.
    EvictSilent,
    /// Force unlock does nothing but say so.
    EvictDoesNothing,
    /// Force unlock takes all keys that begin alike.
    EvictTakesPrefix,
    /// Force unlock of a free key leaves it taken.
    EvictOfFreeTakes,
    /// Force unlock always says that it hit one.
    EvictOvercounts,
    /// Holders are shown under a wrong name and fence.
    ShowsWrongHolder,
    /// The name of an owner ends at its first colon.
    OwnerCut,
    /// A lease is always shown as if it had just begun.
    ShowsWholeLease,
    /// A client that closes takes all locks with it.
    CloseFreesAll,
    /// Releases give no hint.
    HintsMissing,
    /// A dropped watch leaves something behind that eats the next release.
    WatchLeaks,
    /// What is not ours is taken as free.
    CorruptIgnored,
    /// What is not ours ends the process's call in a panic.
    CorruptPanics,
    /// Errors of the line are said to be for ever.
    ErrorsPermanent,
    /// A lost reply is taken for a refusal.
    ErrorsCertain,
    /// The password is in the debug output.
    ShowsSecret,
    /// A reader is let in beside a writer.
    ReaderBesideWriter,
    /// A writer is let in beside readers.
    WriterBesideReaders,
    /// Readers exclude each other.
    ReadersExclude,
    /// One permit more is given than there are.
    OnePermitMore,
    /// Permits of different numbers are counted together.
    MixedPermitsAccepted,
    /// The number of permits stays when nobody has one any more.
    PermitsNumberForEver,
    /// A repeat in another mode is taken for a repeat.
    TokenChangesMode,
    /// A repeat takes another permit, or makes another reader.
    RepeatTakesAnother,
    /// The end of one lease takes all holders.
    ExpiryTakesAll,
    /// A lease ends only when all of its key have ended.
    ExpiryWithLast,
    /// Renewing one renews all holders.
    KeepRenewsAll,
    /// The release of one frees all.
    ReleaseFreesAll,
    /// Readers who hold together have one fence.
    FenceSharedByReaders,
    /// A change of mode forgets how far fences were.
    FenceResetsOnMode,
    /// Only one of several holders is shown.
    ShowsOneHolder,
    /// All holders are shown as exclusive.
    ShowsWrongMode,
    /// A listing has an item for each holder.
    ListsEachHolder,
    /// Peek shows a key as free only if nobody holds it or stands in line.
    PeekIgnoresModes,
    /// A cleanup takes the living with the dead of a key.
    PurgeTakesAllOfAKey,
    /// Force unlock takes one holder only.
    EvictTakesOne,
    /// Readers overtake a writer that waits, in line or not.
    ReadersOvertake,
    /// Writers in line go before all readers.
    WritersFirst,
    /// Only the first in line is served, also of readers.
    LineOneAtATime,
    /// The dead are skipped at the head of the line only.
    DeadBlocksInMiddle,
    /// Whose predecessor is gone is next.
    DeadLetsOthersIn,
    /// Who leaves the line tells nobody.
    LeaveSilent,
    /// Keep never says that a turn has come.
    KeepHidesTurn,
    /// Who lost a place in line never gets another.
    PlaceGoneForGood,
    /// A release wakes one waiter only.
    WakesOne,
    /// A free key is refused now and then.
    RefusesFree,
    /// A hint that broke cannot be armed again.
    BrokenForGood,
    /// The client has one connection for everything.
    OneConnection,
    /// A lease begins in the future.
    AttemptSinceFuture,
    /// Peek never shows a key as free.
    PeekSaysHeld,
    /// Every second client is slow.
    Favourites,
    /// Each keep is sent once more a little later, and brings back what was released.
    KeepLingers,
    /// After a keep that failed the next one says that all is gone.
    KeepGivesUp,
    /// An error of a release is taken for a release.
    ReleaseErrorsHidden,
    /// The store takes one claim at a time.
    BatchOfOne,
    /// In the provider: waits take twice as long.
    WaitsTooLong,
    /// In the provider: no wait is a short wait.
    ZeroWaits,
    /// In the provider: trying is waiting.
    TryWaits,
    /// In the provider: one attempt less than asked for.
    AttemptsMiscounted,
    /// In the provider: each waiter polls for itself.
    PollsAlone,
    /// In the provider: nobody is served in order.
    FairIgnored,
    /// In the provider: a call that is dropped goes on, and what it gets is held for ever.
    CancelLeaks,
    /// In the provider: nothing is renewed.
    NeverRenews,
    /// In the provider: everything is renewed.
    AlwaysRenews,
    /// In the provider: the grace is the default.
    GraceIgnored,
    /// In the provider: nothing stops renewing.
    MaxHoldIgnored,
    /// In the provider: a release comes at once.
    MinHoldIgnored,
    /// In the provider: extending says yes and does nothing.
    ExtendIgnored,
    /// In the engine: background work is left to the caller's runtime.
    BackgroundOnCaller,
    /// In the engine: the clock stands still.
    ClockStopped,
    /// In the provider: owners are not heard.
    OwnerIgnored,
    /// In the provider: all have one owner.
    OwnerForAll,
    /// In the provider: keys are shown with the prefix.
    PrefixShown,
    /// In the provider: shutting down does nothing.
    ShutdownIgnored,
    /// In the provider: bad keys are mended.
    KeysMended,
    /// In the provider: the modes that the store has not are exclusive.
    ModesIgnored,
    /// In the provider: all modes are exclusive.
    AllExclusive,
    /// In the provider: it looks before it asks.
    LooksFirst,
    /// In the provider: several keys are taken in the order in which they are named.
    ManyUnsorted,
    /// In the provider: what was taken of several keys is held for ever if the rest cannot be had.
    ManyKeepsPart,
    /// In the provider: of several keys each may be waited for as long as all.
    ManyDeadlineEach,
    /// In the provider: of several keys the first stays held when all are released.
    ManyLeavesOne,
    /// In the provider: of several keys the last is not taken.
    ManySkipsLast,
    /// In the provider: a key that is named twice is waited for by who holds it.
    ManyCountsTwice,
    /// In the provider: no keys are locked as well as any.
    ManyTakesNothing,
}
