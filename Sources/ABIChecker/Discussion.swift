internal import PVClock

/// A guest of the discussion of 2015: what it does with the clock, and what it makes of what it reads.
public struct DiscussionGuest: Hashable, Sendable {
  public let id: String
  public let summary: String
  /// It takes vCPU 0's first reading off all others.
  public let subtracts: Bool
  /// Where that comes out below 0 it says 0.
  public let isGuarded: Bool
  /// It wants to count from 0: where the host restarts time at its request, that is no harm.
  public let wantsZero: Bool
  /// It runs on a host whose vCPU 1 is behind by so much, in nanoseconds.
  public let lag: UInt64

  init(
    _ id: String, _ summary: String, subtracts: Bool = false, isGuarded: Bool = false,
    wantsZero: Bool = false, lag: UInt64 = 0
  ) {
    self.id = id
    self.summary = summary
    self.subtracts = subtracts
    self.isGuarded = isGuarded
    self.wantsZero = wantsZero
    self.lag = lag
  }

  public static let sles10 = Self(
    "sles10", "writes the old MSR again and again, as SLES 10's 2.6.16 does")
  public static let rewriter = Self("rewriter", "does the same through the new MSR")
  public static let replug = Self("replug", "vCPU 0 is unplugged and comes back")
  public static let oldMSR = Self("old-msr", "registers each vCPU once, through the old MSR")
  public static let ownOffset = Self(
    "own-offset", "registers each vCPU once and subtracts its first reading, as Linux 4.3 does",
    subtracts: true)
  public static let optIn = Self(
    "opt-in",
    "asks for a clock from zero where the host offers that, and subtracts where not; vCPU 0 is re-plugged, and "
      + "does not ask again", wantsZero: true)
  public static let optInAgain = Self(
    "opt-in-again", "as opt-in, but a re-plugged vCPU 0 asks again", wantsZero: true)
  public static let behind = Self(
    "behind", "brings up vCPU 1 while its clock is slightly behind, and subtracts", subtracts: true,
    lag: 2_000_000)
  public static let behindGuarded = Self(
    "behind-guarded", "the same, and takes what is below 0 for 0", subtracts: true, isGuarded: true,
    lag: 2_000_000)

  public static let all: [Self] = [
    sles10, rewriter, replug, oldMSR, ownOffset, optIn, optInAgain, behind, behindGuarded,
  ]

  /// How long its VM has been up when it begins, in nanoseconds.
  public static let uptime: UInt64 = 3_600_000_000_000

  /// The bit of CPUID 0x40000001.EAX by which a host of this discussion says that a guest may ask for a clock from zero, and the
  /// bit of the MSR's value by which a guest does. The thread names neither; both are free.
  public static let optInFeature: UInt32 = 1 << 30
  public static let optInRequest: UInt64 = 1 << 1
}

/// What became of a guest.
public enum PolicyOutcome: Hashable, Sendable, Codable {
  case works
  /// Its time went back, in nanoseconds at most.
  case wentBack(by: UInt64)
  /// Its time is that much less than the VM's, and never went back while it looked.
  case restarted(by: UInt64)
  /// It subtracted and came out below 0, which without a sign is centuries.
  case underflow(by: UInt64)
  /// What this guest is about did not happen.
  case notShown(reason: String)
}

extension DiscussionGuest {
  /// Judges what a guest read.
  public func outcome(of history: History) -> PolicyOutcome {
    let timeline = Timeline(history)
    if let failure = timeline.failure { return .notShown(reason: failure) }
    let readings = timeline.observations.filter { $0.page != nil }
    guard readings.count >= 2, let first = readings.first else {
      return .notShown(reason: "saw \(readings.count) readings, needs 2")
    }
    if lag > 0 {
      let elapsed = first.event.elapsed(to: readings[1].event).upper
      // A record may run ahead by as long as it took to make: what is below 0 has to be below that, too.
      guard elapsed + readings[1].lead < Int128(lag) else {
        return .notShown(
          reason: "vCPU 1 read \(short(elapsed)) after vCPU 0, from a record that took "
            + "\(short(readings[1].lead)) to make: too late to be behind")
      }
    }
    if let below = underflow(readings, first.value) { return .underflow(by: below) }
    if let back = stepBack(timeline, readings) { return .wentBack(by: back) }
    if !wantsZero, let lost = lostAge(timeline, readings) { return .restarted(by: lost) }
    return .works
  }

  /// How far below 0 a reading is, without a sign or less the constant.
  private func underflow(_ readings: [Observation], _ constant: UInt64) -> UInt64? {
    guard !isGuarded else { return nil }
    let offset = subtracts ? constant : 0
    return readings.compactMap { reading in
      let own = Int64(bitPattern: reading.value &- offset)
      return own < 0 && Int128(own.magnitude) > reading.lead ? own.magnitude : nil
    }.max()
  }

  /// By how much at most a reading is below one before it, less what the ABI allows a record to run ahead.
  private func stepBack(_ timeline: Timeline, _ readings: [Observation]) -> UInt64? {
    var worst: Int128 = 0
    var newest = readings[0]
    for reading in readings.dropFirst() {
      let step = difference(reading.value, newest.value)
      let allowed = newest.lead + timeline.drift(until: reading) + timeline.rounding
      let isGuardedAway = isGuarded && step < 0
      if step < -allowed, !isGuardedAway { worst = max(worst, -step) }
      if step > 0 || step < -allowed { newest = reading }
    }
    for event in timeline.history.events {
      guard case .looped(_, let result) = event.action, result.backwards > 0 else { continue }
      let isStable = result.unstable == 0
      if isStable || result.beyond > 0 { worst = max(worst, Int128(result.worst.magnitude)) }
    }
    return worst > 0 ? UInt64(clamping: worst) : nil
  }

  /// By how much at most a reading falls short of the machine's age.
  private func lostAge(_ timeline: Timeline, _ readings: [Observation]) -> UInt64? {
    let isSet = { (event: Event) in if case .setClock = event.action { true } else { false } }
    guard let made = timeline.history.events.first(where: isSet) else { return nil }
    let lost = readings.compactMap { reading -> Int128? in
      let age =
        Int128(Self.uptime) + made.elapsed(to: reading.event).lower
        - timeline.drift(until: reading) - timeline.rounding
      let short = age - Int128(reading.value)
      return short > Int128(lag) ? short : nil
    }.max()
    return lost.map { UInt64(clamping: $0) }
  }
}

/// Which guest works under which policy.
public struct PolicyMatrix: Sendable, Codable {
  public struct Row: Sendable, Codable {
    /// A policy of the model, or the running kernel.
    public var host: String
    public var summary: String
    /// One for each guest, in their order.
    public var outcomes: [PolicyOutcome]

    public init(host: String, summary: String, outcomes: [PolicyOutcome]) {
      self.host = host
      self.summary = summary
      self.outcomes = outcomes
    }
  }

  /// Ids of guests, and what they do.
  public var guests: [String] = DiscussionGuest.all.map(\.id)
  public var summaries: [String] = DiscussionGuest.all.map(\.summary)
  public var rows: [Row]

  public init(rows: [Row]) { self.rows = rows }

  public subscript(host: String, guest: String) -> PolicyOutcome? {
    guard let row = rows.first(where: { $0.host == host }),
      let column = guests.firstIndex(of: guest)
    else { return nil }
    return row.outcomes[column]
  }
}
