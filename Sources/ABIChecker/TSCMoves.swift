internal import PVClock

/// Whose TSC was moved, and whose record may be from before that.
///
/// The host moves a TSC by `KVM_VCPU_TSC_OFFSET`, `KVM_SET_TSC_KHZ` or `KVM_SET_MSRS`, the guest by WRMSR. What a guest
/// computes from an old record with a moved TSC is wrong by the whole move: whether KVM has to make a new record before
/// is the business of the rules on TSC writes, so no other rule looks at it before a new record is certain.
struct TSCMoves {
  private struct Sight {
    var address: Hex
    var timestamp: UInt64
  }

  /// The vCPUs whose record may be from before their TSC was moved.
  private(set) var stale: Set<Int> = []
  /// The vCPUs whose offset was not recorded since.
  private(set) var offsetUnknown: Set<Int> = []
  /// Those whose frequency was set: KVM may change their offset at any entry.
  private var retuned: Set<Int> = []
  /// What a stale record looked like.
  private var old: [Int: Sight] = [:]
  /// What the host saw of a record since its vCPU was in the guest.
  private var atRest: [Int: Sight] = [:]
  /// Whose next entry is certain to make a new record.
  private var renewing: Set<Int> = []
  /// Whose record the host registered, with no entry since: the entry makes it, whatever moves the TSC before.
  private var registered: Set<Int> = []

  /// The vCPU whose TSC this event moves, or may move.
  static func vcpu(movedBy event: Event) -> Int? {
    switch (event.action, event.actor) {
    case (.setTSCOffset(let vcpu, _), _), (.setTSCKHz(let vcpu?, _, _), _): vcpu
    case (.hostWroteMSR(let vcpu, let msr, _), _) where MSR.movesTSC(msr): vcpu
    case (.wroteMSR(let msr, _, nil), .vcpu(let vcpu)) where MSR.movesTSC(msr): vcpu
    default: nil
    }
  }

  /// The vCPU that `event` moves.
  mutating func take(_ event: Event) -> Int? {
    if case .vcpu(let vcpu) = event.actor {
      atRest[vcpu] = nil
      if renewing.remove(vcpu) != nil { renew(vcpu) }
      registered.remove(vcpu)
    }
    switch (event.action, event.actor) {
    case (.vmCreated, _): self = TSCMoves()
    case (.setClock, _): renewing = stale
    case (.hostWroteMSR(let vcpu, let msr, let value), _) where MSR.isSystemTime(msr):
      if value.value & 1 == 1 {
        registered.insert(vcpu)
        if stale.contains(vcpu) { renewing.insert(vcpu) }
      } else {
        registered.remove(vcpu)
      }
    case (.wroteMSR(let msr, let value, nil), .vcpu(let vcpu))
    where MSR.isSystemTime(msr) && value.value & 1 == 1:
      renew(vcpu)
    case (.tscOffset(let vcpu, _), _) where !retuned.contains(vcpu): offsetUnknown.remove(vcpu)
    case (.poked, _), (.filled, _): (old, atRest) = ([:], [:])
    case (.page(let vcpu, let address, let page), _):
      let sight = Sight(address: address, timestamp: page.tscTimestamp)
      see(sight, of: vcpu)
      atRest[vcpu] = sight
    case (.read(let address, _, let reading, settled: true), .vcpu(let vcpu)):
      see(Sight(address: address, timestamp: reading.page.tscTimestamp), of: vcpu)
    default: break
    }
    guard let vcpu = Self.vcpu(movedBy: event) else { return nil }
    if case .setTSCKHz = event.action { retuned.insert(vcpu) }
    stale.insert(vcpu)
    offsetUnknown.insert(vcpu)
    if registered.contains(vcpu) { renewing.insert(vcpu) } else { renewing.remove(vcpu) }
    old[vcpu] = atRest[vcpu]
    return vcpu
  }

  private mutating func renew(_ vcpu: Int) {
    stale.remove(vcpu)
    old[vcpu] = nil
  }

  /// A record whose timestamp has changed is new.
  private mutating func see(_ sight: Sight, of vcpu: Int) {
    guard stale.contains(vcpu) else { return }
    guard let before = old[vcpu], before.address == sight.address else {
      old[vcpu] = sight
      return
    }
    if before.timestamp != sight.timestamp { renew(vcpu) }
  }
}

/// A move of a vCPU's TSC, its last reading before and its first one after.
struct TSCMove: Sendable {
  let vcpu: Int
  let before: Observation
  let event: Event
  let after: Observation
  /// Whether the vCPU entered while another one, whose TSC the host had also moved, had not entered yet.
  let isBeforeOthers: Bool
  /// Whether no other vCPU's move waited for an entry when this one was moved.
  let wasMovedFirst: Bool
  /// The offset or the MSR as it read after the move, before the TSC was moved again; nil if it was not read.
  let readBack: Hex?
}

extension TSCMove {
  /// How far the guest's TSC departed from the host's in the move, in cycles; nil where no reading tells.
  var shift: Interval? { before.tscShift(to: after) }

  /// Whether the clock is off by the whole move: with the TSC as it was before, the record gives a value that advanced
  /// by an allowed amount. So does a record that was made before the move and not since.
  func isClockOffByTheMove(allowed: Interval) -> Bool {
    guard let shift, let page = after.page, let tsc = after.tsc else { return false }
    func advance(withoutMove cycles: Int128) -> Int128 {
      let unmoved = tsc &- UInt64(truncatingIfNeeded: cycles)
      let age = max(0, difference(unmoved, page.tscTimestamp))
      return difference(page.systemTime(atTSC: page.tscTimestamp &+ UInt64(age)), before.value)
    }
    return advance(withoutMove: shift.upper) <= allowed.upper
      && allowed.lower <= advance(withoutMove: shift.lower)
  }

  var isOffset: Bool {
    if case .setTSCOffset = event.action { true } else { false }
  }

  func isWrite(of msr: UInt32, byHost: Bool) -> Bool {
    switch event.action {
    case .hostWroteMSR(_, let index, _): byHost && index == Hex(msr)
    case .wroteMSR(let index, _, _): !byHost && index == Hex(msr)
    default: false
    }
  }

  /// Whether the guest read its clock without an exit to user space after its own write.
  var isReadInSameEntry: Bool {
    event.actor == after.event.actor && event.began == after.event.began
  }

  /// The value written to an MSR.
  var written: Hex? {
    switch event.action {
    case .hostWroteMSR(_, _, let value), .wroteMSR(_, let value, _): value
    default: nil
    }
  }

  /// "IA32_TSC by the host"
  var way: String {
    switch event.action {
    case .setTSCOffset: "KVM_VCPU_TSC_OFFSET"
    case .setTSCKHz: "KVM_SET_TSC_KHZ"
    default:
      (isWrite(of: MSR.tsc, byHost: event.actor == .host) ? "IA32_TSC" : "IA32_TSC_ADJUST")
        + (event.actor == .host ? " by the host" : " by the guest")
    }
  }

  /// Whether the guest's own TSC shows the move.
  var tookEffect: Bool {
    if case .setTSCOffset(_, let cycles) = event.action, let tsc = after.tsc {
      let late = difference(tsc &- after.event.began.tsc, cycles)
      return late >= 0 && late <= Int128(after.event.ended.tsc) - Int128(after.event.began.tsc)
    }
    return shift.map { !$0.contains(0) } ?? false
  }

  /// Why a move proves nothing on this host.
  var withoutEffect: String {
    let read = readBack.map { "it reads back as \($0), and " } ?? ""
    guard let shift else { return "\(description), and no reading followed it" }
    return "\(description): \(read)the guest's TSC did not follow, it is "
      + "\(shift.lower) to \(shift.upper) cycles from where it was"
  }

  var description: String {
    let who = event.actor == .host ? "the host" : "the guest"
    return switch event.action {
    case .setTSCOffset(_, let cycles): "KVM_VCPU_TSC_OFFSET was set to \(cycles)"
    case .setTSCKHz(_, let kHz, _): "KVM_SET_TSC_KHZ was called with \(kHz)"
    default:
      "\(who) wrote \(written?.description ?? "?") to "
        + (isWrite(of: MSR.tsc, byHost: event.actor == .host) ? "IA32_TSC" : "IA32_TSC_ADJUST")
    }
  }
}

extension Observation {
  /// How far the guest's TSC departed from the host's between two single readings, in cycles.
  func tscShift(to later: Observation) -> Interval? {
    guard let first = tsc, let second = later.tsc else { return nil }
    let moved = difference(second &- later.event.began.tsc, first &- event.began.tsc)
    let width = { (event: Event) in Int128(event.ended.tsc) - Int128(event.began.tsc) }
    return Interval(moved - max(0, width(later.event)), moved + max(0, width(event)))
  }

  /// The guest's TSC in a single reading.
  var tsc: UInt64? {
    if case .read(_, _, let reading, _) = event.action { reading.tsc } else { nil }
  }
}
