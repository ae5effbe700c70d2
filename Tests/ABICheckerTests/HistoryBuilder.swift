import PVClock

@testable import ABIChecker

/// Histories made by hand: a small KVM in simulated time, exact to the nanosecond, for tests to break.
///
/// It keeps what KVM keeps (one pair for the master clock, one offset, what each vCPU still has to do at its next
/// entry), because the moment at which a record goes stale is what rules must not be fooled by.
struct HistoryBuilder {
  struct VCPU {
    var tscOffset: UInt64
    var msr: UInt64 = 0
    var wantsRecord = false
    var wantsPair = false
    var isToldStopped = false
    var tscGeneration = 0
    var tscAdjust: UInt64 = 0
    var catchUp: CatchUp?
    /// The frequency of its TSC, where that is scaled.
    var scaledKHz: UInt32?
    /// What L2's TSC is ahead of it, while L2 runs.
    var l2Offset: UInt64?
    var isRegistered: Bool { msr & 1 == 1 }
    var address: UInt64 { msr & ~1 }
  }

  /// One thing that a guest does in an entry.
  enum Step {
    case nothing
    case write(UInt32, UInt64)
    case readMSR(UInt32)
    case read(at: UInt64, ring: Int)
  }

  var time: SimulatedTime
  var header: Header
  var events: [Event] = []
  /// Width of a bracket around nothing, in nanoseconds.
  var bracket: UInt64 = 3_000
  var vcpus: [Int: VCPU] = [:]
  var records: [UInt64: ClockPage] = [:]
  var fills: [(start: UInt64, count: UInt64)] = []
  var clockOffset: UInt64 = 0
  var pair: (cycles: UInt64, base: UInt64)?
  var isBootVCPUOnOldMSR = false
  /// Without the master clock a thread that comes to another CPU gets a new record at its entry.
  var movesBetweenCPUs = true
  /// Linux before 6.7: a vCPU that is made late has the pair taken anew.
  var resnapsOnHotplug = false
  var gate = SimulatedGate()
  /// Guest memory as it was at the last copy.
  var copied: [UInt64: ClockPage] = [:]
  var memory = SimulatedMemory()
  /// A TSC offset was set that another vCPU does not have.
  var forcedDifference: Bool?
  /// The flags that `KVM_GET_CLOCK` returns: before Linux 5.16 only 2, and `KVM_SET_CLOCK` takes none.
  var clockFlags: UInt32 = 0xe
  /// Counts the TSCs that the host gave; there is a master clock only where all vCPUs have the newest.
  var tscGeneration = 0
  var generationOffset: UInt64?
  /// What the host wrote last, as an offset, and how near to it a value has to be to count as the same TSC.
  var lastWrittenOffset: UInt64?
  var synchronizingWindow = Int128(SimulatedTime.tscKHz) * 1000
  /// The frequency that vCPUs made from now on get.
  var kHzOfNewVCPUs: UInt32?
  /// Whether KVM makes records for whole kHz below the rate of a scaled TSC, as Linux does.
  var countsWholeKHz = false
  /// What `schedclock` subtracts.
  var constant: UInt64?
  /// How long the host has slept, in nanoseconds.
  var asleep: UInt64 = 0
  var wall = SimulatedWallClock()
  var others = SimulatedOtherClocks()

  init(
    _ scenario: ScenarioName = .registration, source: SimulatedTime.Source = .tsc,
    noise: SimulatedTime.Noise = .none
  ) {
    time = SimulatedTime(source)
    time.noise = noise
    header = Header(
      scenario: scenario.rawValue, seed: 1,
      host: HostFacts(
        kernel: "6.18.15-amd64", backend: "kvm_amd", clocksource: source.rawValue,
        tscKHz: SimulatedTime.tscKHz))
  }

  var history: History { History(header: header, events: events) }

  // MARK: Events

  /// Records what `work` did between two looks at the host's clocks.
  mutating func bracketed(_ actor: Actor, _ work: (inout Self) -> [Action]) {
    let began = begin()
    let actions = work(&self)
    end(actor, began, actions)
  }

  mutating func begin() -> Instant {
    time.pass(nanoseconds: 500)
    let raw = time.raw
    time.pause()
    let began = Instant(tsc: time.cycles, raw: raw)
    time.pass(nanoseconds: bracket / 2)
    time.pause()
    return began
  }

  mutating func end(_ actor: Actor, _ began: Instant, _ actions: [Action]) {
    time.pause()
    time.pass(nanoseconds: bracket - bracket / 2)
    let tsc = time.cycles
    time.pause()
    let ended = Instant(tsc: tsc, raw: time.raw)
    time.pause()
    for action in actions {
      events.append(
        Event(number: events.count + 1, actor: actor, began: began, ended: ended, action: action))
    }
  }

  mutating func host(_ action: Action) { bracketed(.host) { _ in [action] } }

  mutating func wait(milliseconds: UInt64) { time.pass(nanoseconds: milliseconds * 1_000_000) }

  // MARK: The guest

  /// vCPU `id` goes into the guest, takes `steps` and comes back.
  mutating func run(_ id: Int, _ steps: Step...) {
    bracketed(.vcpu(id)) { host in
      host.serve(id)
      return steps.map { step in
        host.time.pass(nanoseconds: 100)
        host.time.pause()
        return host.take(step, on: id)
      }
    }
  }

  mutating func enter(_ id: Int) { run(id, .nothing) }

  /// Writes the system-time MSR and reads the record without an exit between.
  mutating func register(_ id: Int, at address: UInt64? = nil, msr: UInt32 = MSR.systemTime) {
    let address = address ?? UInt64(0x10000 + id * 0x1000)
    run(id, .write(msr, address | 1), .read(at: address, ring: 0))
  }

  mutating func read(_ id: Int, ring: Int = 0) {
    run(id, .read(at: vcpus[id]!.address, ring: ring))
  }

  private mutating func take(_ step: Step, on id: Int) -> Action {
    switch step {
    case .nothing: return .entered
    case .write(let msr, let value):
      write(value, to: msr, on: id)
      serve(id)
      return .wroteMSR(msr: Hex(msr), value: Hex(value), fault: nil)
    case .readMSR(let msr):
      return .readMSR(msr: Hex(msr), value: Hex(vcpus[id]!.msr), fault: nil)
    case .read(let address, let ring):
      return .read(
        address: Hex(address), ring: ring, reading: reading(on: id, at: address), settled: true)
    }
  }

  func reading(on id: Int, at address: UInt64? = nil) -> Reading {
    Reading(
      tsc: guestTSC(time.cycles, on: id),
      page: records[key(of: address ?? vcpus[id]!.address)] ?? ClockPage())
  }

  // MARK: What tests break

  /// Linux 4.2 on a write by vCPU 0: the clock starts at 0 again.
  mutating func restartClock() {
    clockOffset = 0 &- time.raw
    refreshAll()
  }

  mutating func stepClock(by nanoseconds: Int64) {
    clockOffset &+= UInt64(bitPattern: nanoseconds)
    refreshAll()
  }

  /// Changes the record in the last event that shows one, or in the one at `place` from the end.
  mutating func amend(_ place: Int = 0, _ change: (inout ClockPage) -> Void) {
    let shown = events.indices.filter {
      switch events[$0].action {
      case .page, .read, .looped: true
      default: false
      }
    }
    let at = shown[shown.count - 1 - place]
    switch events[at].action {
    case .page(let vcpu, let address, var page):
      change(&page)
      events[at].action = .page(vcpu: vcpu, address: address, page: page)
    case .read(let address, let ring, var reading, let settled):
      change(&reading.page)
      events[at].action = .read(address: address, ring: ring, reading: reading, settled: settled)
    case .looped(let guest, var result):
      change(&result.last.page)
      events[at].action = .looped(guest: guest, result: result)
    default: break
    }
  }
}
