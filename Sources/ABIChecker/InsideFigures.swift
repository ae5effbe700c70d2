public import PVClock

/// What a process inside a guest measured, in the numbers that people ask for first.
public struct InsideFigures: Hashable, Sendable {
  /// The record as it was seen last.
  public var record: ClockPage?
  /// The whole time, in nanoseconds.
  public var span: UInt64
  public var updates: UInt64
  /// Changes that the host announced by PVCLOCK_GUEST_STOPPED.
  public var stops: Int
  public var reads: UInt64 = 0
  public var cpus = 0
  public var backwards: UInt64 = 0
  /// The largest step back, in nanoseconds.
  public var worst: UInt64 = 0
  /// The record's rate against CLOCK_MONOTONIC_RAW in parts per billion, how far it may be off, and what the multipliers
  /// make of it; nil where CLOCK_MONOTONIC_RAW is not independent.
  public var rate: (measured: Int, error: Int, predicted: Double?)? {
    measuredRate.map { ($0.measured, $0.error, $0.predicted) }
  }
  private var measuredRate: Rate?
  /// The width of the brackets that tie the TSC to CLOCK_MONOTONIC_RAW, in nanoseconds.
  public var bracket: UInt64?

  private struct Rate: Hashable, Sendable {
    var measured, error: Int
    var predicted: Double?
  }

  public init(_ timeline: Timeline) {
    let events = timeline.history.events
    let started = events.first?.began.raw ?? 0
    span = (events.last?.ended.raw ?? 0) &- started
    record = timeline.pages.last?.page
    updates = timeline.updatesInside
    stops = timeline.changesInside.count { $0.new.page.flags.contains(.guestStopped) }
    var readers: Set<Actor> = []
    for event in events {
      switch event.action {
      case .looped(_, let result):
        add(result.reads, result.backwards, result.worst)
      case .raced(_, _, let result):
        add(result.reads, result.backwards, result.worst)
      case .watched(_, _, _, let result): add(result.reads, 0, 0)
      default: continue
      }
      readers.insert(event.actor)
    }
    cpus = readers.count
    bracket = events.lazy.filter { $0.action == .tick }
      .map { $0.ended.raw &- $0.began.raw }.max()
    guard timeline.rateObstacleInside == nil, let advance = timeline.rateAdvances.first else {
      return
    }
    let raw = advance.raw
    let whole: Int128 = 1_000_000_000
    measuredRate = Rate(
      measured: Int(
        clamping: (2 * advance.seen - raw.lower - raw.upper) * whole / (raw.lower + raw.upper)),
      error: Int(clamping: (raw.width + 2 * timeline.rounding) * whole / (2 * raw.lower)),
      predicted: timeline.history.rateDifference?.partsPerBillion)
  }

  private mutating func add(_ reads: UInt64, _ backwards: UInt64, _ worst: Int64) {
    self.reads &+= reads
    self.backwards &+= backwards
    self.worst = max(self.worst, worst < 0 ? worst.magnitude : 0)
  }
}
