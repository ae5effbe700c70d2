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
    }
    switch (event.action, event.actor) {
    case (.vmCreated, _): self = TSCMoves()
    case (.setClock, _): renewing = stale
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
    renewing.remove(vcpu)
    old[vcpu] = atRest[vcpu]
    return vcpu
  }

  private mutating func renew(_ vcpu: Int) {
    stale.remove(vcpu)
    old[vcpu] = nil
  }

  /// A record that is no longer what it was is new.
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
  /// Whether another vCPU, whose TSC the host had moved before, had not been in the guest since.
  let isAmidOthers: Bool

  /// How far the guest's TSC came to be from the host's, less what it was before, in cycles; nil where no reading tells.
  var shift: Interval? {
    guard let first = before.tsc, let second = after.tsc else { return nil }
    let from = first &- before.event.began.tsc
    let to = second &- after.event.began.tsc
    let moved = difference(to, from)
    let width = { (event: Event) in Int128(event.ended.tsc) - Int128(event.began.tsc) }
    return Interval(moved - max(0, width(after.event)), moved + max(0, width(before.event)))
  }
}

extension Observation {
  /// The guest's TSC in a single reading.
  var tsc: UInt64? {
    if case .read(_, _, let reading, _) = event.action { reading.tsc } else { nil }
  }
}
