public import PVClock

/// What a guest that reads one record in a loop says of it.
public struct WatchResult: Hashable, Sendable, Codable {
  public var reads: UInt64
  /// Readings begun again: the version was odd, or another one after the fields were read.
  public var odd: UInt64
  /// Readings that differ from the first one under the same even version.
  public var torn: UInt64
  /// The first of those, the version's first record before it; empty if there were none.
  public var tornPair: [ClockPage]
  /// One for each version seen, in order.
  public var stretches: [Stretch]
  /// Versions beyond those: the last stretch is the newest, the missing ones stood before it.
  public var dropped: UInt64

  public init(
    reads: UInt64, odd: UInt64 = 0, torn: UInt64 = 0, tornPair: [ClockPage] = [],
    stretches: [Stretch], dropped: UInt64 = 0
  ) {
    self.reads = reads
    self.odd = odd
    self.torn = torn
    self.tornPair = tornPair
    self.stretches = stretches
    self.dropped = dropped
  }

  /// How many versions the loop saw.
  var versions: UInt64 { UInt64(stretches.count).addingReportingOverflow(dropped).partialValue }

  /// Stretches that followed each other without a missing one between them.
  var neighbours: Zip2Sequence<ArraySlice<Stretch>, ArraySlice<Stretch>> {
    let whole = dropped == 0 ? stretches[...] : stretches.dropLast()
    return zip(whole, whole.dropFirst())
  }
}

/// All readings that a loop made of one version of a record.
public struct Stretch: Hashable, Sendable, Codable {
  public var page: ClockPage
  /// Guest TSC of the first reading and of the last one.
  public var firstTSC, lastTSC: UInt64
  public var reads: UInt64

  public init(page: ClockPage, firstTSC: UInt64, lastTSC: UInt64, reads: UInt64) {
    self.page = page
    self.firstTSC = firstTSC
    self.lastTSC = lastTSC
    self.reads = reads
  }

  var first: UInt64 { page.systemTime(atTSC: firstTSC) }
  var last: UInt64 { page.systemTime(atTSC: lastTSC) }
}

/// What a guest that reads one wall clock record in a loop says of it.
public struct WallWatchResult: Hashable, Sendable, Codable {
  public var reads: UInt64
  /// Readings begun again: the version was odd, or another one after the fields were read.
  public var odd: UInt64
  /// Readings that differ from the first one under the same even version.
  public var torn: UInt64
  /// The first of those, the version's first record before it; empty if there were none.
  public var tornPair: [WallClock]
  /// The first reading of each version, in order.
  public var records: [WallClock]

  public init(
    reads: UInt64, odd: UInt64 = 0, torn: UInt64 = 0, tornPair: [WallClock] = [],
    records: [WallClock]
  ) {
    self.reads = reads
    self.odd = odd
    self.torn = torn
    self.tornPair = tornPair
    self.records = records
  }
}

/// What a guest saw that raced others for the largest reading.
public struct RaceResult: Hashable, Sendable, Codable {
  public var reads: UInt64
  /// Readings compared with one that another vCPU had published.
  public var foreign: UInt64
  /// Readings without PVCLOCK_TSC_STABLE_BIT.
  public var unstable: UInt64
  /// Times the version differed from the reading before.
  public var versions: UInt64
  /// Readings below the maximum that was there before them.
  public var backwards: UInt64
  /// The largest of those steps, in nanoseconds, 0 or less: the maximum, its TSC, and the reading.
  public var worst: Int64
  public var worstBefore, worstBeforeTSC: UInt64
  public var worstAfter: Reading
  public var first, last: Reading

  public init(
    reads: UInt64, foreign: UInt64, unstable: UInt64 = 0, versions: UInt64 = 0,
    backwards: UInt64 = 0, worst: Int64 = 0, worstBefore: UInt64 = 0, worstBeforeTSC: UInt64 = 0,
    worstAfter: Reading? = nil, first: Reading, last: Reading
  ) {
    self.reads = reads
    self.foreign = foreign
    self.unstable = unstable
    self.versions = versions
    self.backwards = backwards
    self.worst = worst
    self.worstBefore = worstBefore
    self.worstBeforeTSC = worstBeforeTSC
    self.worstAfter = worstAfter ?? last
    self.first = first
    self.last = last
  }
}
