internal import PVClock

/// What a VMM can be asked to do with a virtual machine.
public enum VMMVerb: String, Hashable, Sendable, Codable, CaseIterable {
  /// A new virtual machine boots the guest.
  case start
  case pause, resume
  /// The state of a paused machine goes to a file.
  case save
  /// A new virtual machine goes on from such a file.
  case restore
  /// The machine goes over to another process while it runs.
  case migrate
  case reset
  case plug, unplug
  case quit
}

/// Why a VMM did not do what it was asked for.
public enum VMMFailure: Hashable, Sendable, Codable {
  /// It said no, with these words.
  case refused(reason: String)
  /// Its process ended.
  case ended(how: String)
  /// It did not answer in time, or the guest did not.
  case silent(about: String)
}

/// What whoever tests a VMM says that its clock does while the guest does not run.
public enum ClockPolicy: String, Hashable, Sendable, Codable, CaseIterable {
  /// It goes on from where it was.
  case standsStill = "stands-still"
  /// It counts the time.
  case runsOn = "runs-on"
}

/// What a vCPU saw of its own record, reading it without pause, from one question to the next.
public struct SampleResult: Hashable, Sendable, Codable {
  public var reads: UInt64
  /// Readings below the one before them.
  public var backwards: UInt64
  /// The largest step back, in nanoseconds, 0 or less; the clock's value before it, at which TSC, and the reading after it.
  public var worst: Int64
  public var worstBefore: UInt64
  public var worstBeforeTSC: UInt64
  public var worstAfter: Reading
  /// Readings with a lower TSC than the one before.
  public var tscBackwards: UInt64
  /// The most TSC cycles from one reading to the next.
  public var longestGap: UInt64
  /// Readings that differ from an earlier one under the same even version.
  public var torn: UInt64
  /// Times the version stayed odd.
  public var neverEven: UInt64
  /// One for each version seen, in order; the last one is the newest.
  public var stretches: [Stretch]
  /// Versions that there was no room for, before the last one.
  public var dropped: UInt64
  /// The answer to the question.
  public var last: Reading
  /// vCPU 0's TSC when it asked, and when it saw the answer.
  public var asked: UInt64
  public var seen: UInt64

  public init(
    reads: UInt64, backwards: UInt64 = 0, worst: Int64 = 0, worstBefore: UInt64 = 0,
    worstBeforeTSC: UInt64 = 0, worstAfter: Reading? = nil, tscBackwards: UInt64 = 0,
    longestGap: UInt64 = 0, torn: UInt64 = 0, neverEven: UInt64 = 0, stretches: [Stretch] = [],
    dropped: UInt64 = 0, last: Reading, asked: UInt64, seen: UInt64
  ) {
    self.reads = reads
    self.backwards = backwards
    self.worst = worst
    self.worstBefore = worstBefore
    self.worstBeforeTSC = worstBeforeTSC
    self.worstAfter = worstAfter ?? last
    self.tscBackwards = tscBackwards
    self.longestGap = longestGap
    self.torn = torn
    self.neverEven = neverEven
    self.stretches = stretches
    self.dropped = dropped
    self.last = last
    self.asked = asked
    self.seen = seen
  }

  /// Whether the answer was read under one even version.
  var isSettled: Bool { last.page.version & 1 == 0 }

  /// The records that were seen, the one of the answer last.
  var pages: [ClockPage] { stretches.map(\.page) + (isSettled ? [last.page] : []) }
}
