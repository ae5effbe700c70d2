internal import KVM
internal import PVClock

/// Guest memory as the clock needs it.
protocol GuestRAM: Sendable {
  func isWritable(_ address: UInt64, count: Int) -> Bool
  func read(_ address: UInt64, count: Int) -> [UInt8]?
  /// All of it or nothing.
  @discardableResult
  func write(_ bytes: [UInt8], at address: UInt64) -> Bool
}

/// One of the writes that a record consists of.
struct Store {
  var offset: UInt64
  var bytes: [UInt8]
}

extension VMClock {
  /// Writes a vCPU's record under the version protocol: odd while it changes, and two more than before after it. Exactly 32 bytes, and
  /// nothing where the host may not write all of them.
  mutating func publishRecord(of id: Int) {
    let address = vcpus[id]!.recordAddress
    guard memory.isWritable(address, count: ClockPage.size),
      let before = memory.read(address, count: ClockPage.size).flatMap(ClockPage.init(bytes:))
    else {
      deviation.unserved?(&self, id)
      return
    }
    var record = record(of: id, over: before)
    deviation.record?(&self, id, before, &record)
    vcpus[id]!.isStopPending = false
    let odd = (before.version &+ 1) | 1
    record.version = odd &+ 1
    var stores = [
      Store(offset: 0, bytes: Self.bytes(odd)),
      Store(offset: 4, bytes: Array(record.bytes[4...])),
      Store(offset: 0, bytes: Self.bytes(record.version)),
    ]
    deviation.stores?(&self, id, before, &stores)
    for store in stores { memory.write(store.bytes, at: address &+ store.offset) }
  }

  /// What a vCPU's record says. Of the old content only the version counts, and the flag that the guest was stopped:
  /// it stays until the guest clears it.
  private func record(of id: Int, over before: ClockPage) -> ClockPage {
    let vcpu = vcpus[id]!
    let shown = hasMasterClock ? point : now()
    var flags: ClockPage.Flags = hasMasterClock ? .tscStable : []
    if vcpu.isStopPending || before.flags.contains(.guestStopped) { flags.insert(.guestStopped) }
    if policy.countsFromZero { flags.insert(.countsFromZero) }
    let scale = vcpu.scaling?.record ?? scale
    let tsc = vcpu.scaling?.guestTSC(shown.tsc) ?? shown.tsc
    return ClockPage(
      tscTimestamp: tsc &+ vcpu.tscOffset, systemTime: shown.systemTime,
      tscToSystemMultiplier: scale.multiplier, tscShift: scale.shift, flags: flags)
  }

  static func bytes(_ word: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) }
  }
}
