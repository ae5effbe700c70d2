internal import PVClock

/// A history read once, from front to back, with what rules ask of it worked out.
///
/// All arithmetic is 128 bits wide or modulo 2^64: a history from elsewhere may hold any number.
public struct Timeline: Sendable {
  public let history: History
  /// The machines, each with its events in order.
  let machines: [MachineRun]
  /// Every record that was read, in order, with those whose version stayed odd.
  let writtenPages: [SeenPage]
  /// Every value of the clock that was seen, in order. A guest's reading of a record that may be from before its TSC was
  /// moved is not among them: it is the business of `tscMoves` alone.
  let observations: [Observation]
  /// Places of the loops that read a record that may be from before their vCPU's TSC was moved.
  let loopsOnOldRecords: Set<Int>
  /// What was written to memory between two comparisons of it.
  let memoryWindows: [MemoryWindow]
  /// What was seen around each move of a vCPU's TSC.
  let tscMoves: [TSCMove]
  /// The events in which KVM may have taken a new pair for the master clock while the clock ran on.
  private let newPairs: [Event]
  /// The switches of the host's clocksource, and how long CLOCK_MONOTONIC_RAW may have stood still in each.
  private let switches: [(event: Event, lost: Int128)]
  /// Why the scenario could not go on, if so.
  public let failure: String?
  /// What the host did to itself meanwhile, if it did: then the brackets mean nothing.
  let disturbance: String?
  /// What the host lacks, if the scenario found it lacking.
  let lacking: String?
  /// By how much a clock that counts the TSC runs faster than CLOCK_MONOTONIC_RAW, in parts per billion.
  let rate: Interval
  /// Why nothing can be said of the rate, if the two clocks were seen to keep none: a TSC that stops or jumps.
  let unsteady: String?
  /// Two conversions from cycles, each truncated by less than 1 ns, and two clocks of whole nanoseconds. Where
  /// another clocksource drives the host's, two of its ticks besides.
  let rounding: Int128
  /// Whether CLOCK_MONOTONIC_RAW counts the TSC itself, from the first event to the last.
  let isTSC: Bool
  let judgements = Judgements()

  /// How far kvmclock's rate may be from CLOCK_MONOTONIC_RAW's, in parts per billion.
  var rateBound: Int128 { max(-rate.lower, rate.upper) }

  public init(_ recorded: History) {
    let history = recorded.onIndependentClock
    self.history = history
    let rates = Self.rates(of: history)
    let whole = Self.wholeKilohertz(in: history)
    self.rate = Interval(
      (rates.map(\.bounds.lower).min() ?? -Self.whole) - whole,
      (rates.map(\.bounds.upper).max() ?? Self.whole) + whole)
    self.unsteady = rates.lazy.compactMap(\.contradiction).first
    self.switches = Self.switches(in: history, rate: rate)
    self.isTSC =
      (history.header.isInside || history.header.host.clocksource == "tsc")
      && !history.events.contains(where: \.isClocksourceSwitch)
    self.rounding = isTSC ? 4 : 4 + 2 * Self.tick
    var failure: String?
    var disturbance: String?
    var lacking: String?
    for event in history.events {
      if case .failed(let reason) = event.action { failure = failure ?? reason }
      if case .disturbed(let how) = event.action { disturbance = disturbance ?? how }
      if case .lacking(let what, let evidence) = event.action {
        lacking = lacking ?? "\(what): \(evidence)"
      }
    }
    self.failure = failure
    self.disturbance = disturbance
    self.lacking = lacking
    let folded = Folded(history)
    self.machines = folded.machines
    self.writtenPages = Self.writtenPages(of: folded.machines)
    self.memoryWindows = folded.machines.flatMap(MemoryWindow.all)
    self.observations = folded.observations
    self.newPairs = folded.newPairs
    self.tscMoves = folded.tscMoves
    self.loopsOnOldRecords = folded.loopsOnOldRecords
  }

  /// Every step of every machine, in order.
  var steps: [Step] {
    machines.count == 1 ? machines[0].steps : machines.flatMap(\.steps)
  }
}

/// The machines of a history, each followed from its creation to its end.
private struct Folded {
  var machines: [MachineRun] = []
  var observations: [Observation] = []
  var newPairs: [Event] = []
  var tscMoves: [TSCMove] = []
  var loopsOnOldRecords: Set<Int> = []
  private var alive: [(name: Int?, fold: MachineFold)] = []
  private var epoch = 0
  private let isInside: Bool

  init(_ history: History) {
    isInside = history.header.isInside
    for (index, event) in history.events.enumerated() { take(event, at: index) }
    for machine in alive { end(machine.fold) }
  }

  private mutating func take(_ event: Event, at index: Int) {
    if event.action == .vmCreated || alive.isEmpty { make(event) }
    for place in places(of: event) {
      let step = alive[place].fold.take(event, at: index, epoch: &epoch)
      observations += step.observations
      if step.machine.mayHaveNewPair { newPairs.append(event) }
      machines[step.machine.number].steps.append(step)
    }
  }

  /// A machine with a name lives beside the others; one without takes the place of all.
  private mutating func make(_ event: Event) {
    let ended = alive.filter { event.machine == nil || $0.name == event.machine }
    for machine in ended { end(machine.fold) }
    alive.removeAll { event.machine == nil || $0.name == event.machine }
    epoch += 1
    let fold = MachineFold(
      number: machines.count, epoch: epoch, first: event, isInside: isInside)
    alive.append((event.machine, fold))
    machines.append(MachineRun(number: machines.count))
  }

  /// The machines that an event concerns.
  private func places(of event: Event) -> [Int] {
    if event.isOfTheHost { return Array(alive.indices) }
    guard let name = event.machine else { return [alive.count - 1] }
    return alive.indices.filter { alive[$0].name == name }
  }

  private mutating func end(_ fold: MachineFold) {
    tscMoves += fold.tscMoves
    loopsOnOldRecords.formUnion(fold.loopsOnOldRecords)
  }
}

/// A value of the clock that a guest read or that `KVM_GET_CLOCK` returned.
struct Observation: Sendable {
  /// Place of the event in the history, from 0.
  let index: Int
  let event: Event
  /// kvmclock in nanoseconds, modulo 2^64.
  let value: UInt64
  /// The vCPU whose record was read; nil for `KVM_GET_CLOCK`.
  let vcpu: Int?
  /// The record; nil for `KVM_GET_CLOCK`.
  let page: ClockPage?
  /// The guest's TSC that the value was computed for; nil for `KVM_GET_CLOCK`.
  let guestTSC: UInt64?
  /// The vCPU's TSC offset, in cycles; nil where it is not known for certain.
  let tscOffset: UInt64?
  /// Whether it is based on the VM's master clock, by its own flag.
  let isStable: Bool
  /// By how much the value may run ahead of the clock. Outside master-clock mode KVM reads the TSC and its base one
  /// after the other, so the record runs ahead by the time between: at most the entry in which it was made.
  let lead: Int128
  /// Counts the machines and the settings of their clock: values are comparable within one epoch.
  let epoch: Int
  /// When this machine was made.
  let machineBegan: Instant
}

extension Timeline {
  /// By how much the clock may have come away from CLOCK_MONOTONIC_RAW between the making of the machine and
  /// `observation`: what a new snapshot for the master clock makes good at once.
  func drift(until observation: Observation) -> Int128 {
    drift(from: observation.machineBegan, until: observation.event)
  }

  /// The same between the making of the machine and an event.
  func drift(from began: Instant, until event: Event) -> Int128 {
    let age = Int128(event.ended.raw) - Int128(began.raw)
    let lost = switches.filter {
      $0.event.began.raw <= event.ended.raw && began.raw <= $0.event.ended.raw
    }
    return lost.reduce(share(rateBound, of: age)) { $0 + $1.lost }
  }

  /// Whether the master clock may have got a new pair, and with it a step of `drift(until:)`, meanwhile.
  func mayHaveNewPair(from earlier: Event, to later: Event) -> Bool {
    newPairs.contains {
      $0.began.raw <= later.ended.raw && earlier.began.raw <= $0.ended.raw
    }
  }

  /// What `later` may show, less what `earlier` showed, if one clock runs through: nanoseconds of
  /// CLOCK_MONOTONIC_RAW between the two brackets, widened by drift, rounding and lead.
  func allowedAdvance(from earlier: Observation, to later: Observation) -> Interval {
    let elapsed = earlier.event.elapsed(to: later.event)
    let slack = drift(until: later) + rounding
    return Interval(
      elapsed.lower - earlier.lead - slack, elapsed.upper + later.lead + slack)
  }

}

extension Timeline {
  /// How far a sound clock may be from CLOCK_MONOTONIC_RAW, in nanoseconds: at first, and after a time.
  ///
  /// - Parameter error: how exactly the two are put beside each other.
  public func allowedDrift(
    over nanoseconds: Double, error: Double
  ) -> (start: ClosedRange<Double>, end: ClosedRange<Double>) {
    let slack = Double(rounding) + 2 * error
    let least = Double(rate.lower) * nanoseconds / 1e9
    let most = Double(rate.upper) * nanoseconds / 1e9
    return (-slack...slack, (-slack + min(0, least))...(slack + max(0, most)))
  }
}

/// The numbers of the clock's MSRs.
///
/// Source: Documentation/virt/kvm/x86/msr.rst.
public enum MSR {
  public static let wallClockOld: UInt32 = 0x11
  public static let systemTimeOld: UInt32 = 0x12
  public static let wallClock: UInt32 = 0x4b56_4d00
  public static let systemTime: UInt32 = 0x4b56_4d01
  /// The guest's TSC itself, IA32_TSC, and what was added to it, IA32_TSC_ADJUST.
  public static let tsc: UInt32 = 0x10
  public static let tscAdjust: UInt32 = 0x3b
  /// Hyper-V's: who the guest is, the reference counter, and where the reference TSC page is.
  public static let hyperVGuest: UInt32 = 0x4000_0000
  public static let referenceCount: UInt32 = 0x4000_0020
  public static let referenceTSC: UInt32 = 0x4000_0021

  static func isSystemTime(_ msr: Hex) -> Bool {
    msr.value == UInt64(systemTime) || isOldSystemTime(msr)
  }

  static func isOldSystemTime(_ msr: Hex) -> Bool { msr.value == UInt64(systemTimeOld) }

  static func movesTSC(_ msr: Hex) -> Bool {
    msr.value == UInt64(tsc) || msr.value == UInt64(tscAdjust)
  }
}
