internal import PVClock

/// CLOCK_REALTIME less system time, in nanoseconds: when, by the wall clock, system time was 0.
struct WallClockEpoch {
  private var estimate: UInt64?

  /// The two clocks can't be read at once. As long as what was said before may still be true, it is said again.
  mutating func value(from earliest: UInt64, to latest: UInt64) -> UInt64 {
    guard let known = estimate, known &- earliest <= latest &- earliest else {
      // Too early, or too late?
      let isLate = estimate.map { Int64(bitPattern: $0 &- latest) > 0 } ?? false
      estimate = isLate ? latest : earliest
      return estimate!
    }
    return known
  }
}

extension VMClock {
  /// The wall-clock MSR: the record is written once, now, at whatever address; 0 is none.
  mutating func writeWallClock(_ address: UInt64) {
    wallClockMSR = address
    guard address != 0, memory.isWritable(address, count: WallClock.size),
      let old = memory.read(address, count: WallClock.size).flatMap(WallClock.init(bytes:))
    else {
      deviation.wallUnserved?(&self, address)
      return
    }
    let odd = (old.version &+ 1) | 1
    let epoch = epoch()
    var record = WallClock(
      version: odd &+ 1, seconds: UInt32(truncatingIfNeeded: epoch / 1_000_000_000),
      nanoseconds: UInt32(epoch % 1_000_000_000))
    deviation.wallRecord?(&self, old, &record)
    var stores = [
      Store(offset: 0, bytes: Self.bytes(odd)),
      Store(offset: 4, bytes: Array(record.bytes[4...])),
      Store(offset: 0, bytes: Self.bytes(record.version)),
    ]
    deviation.wallStores?(&self, address, &stores)
    for store in stores { memory.write(store.bytes, at: address &+ store.offset) }
  }

  private mutating func epoch() -> UInt64 {
    let before = now().systemTime
    let realtime = time.realtime()
    return wallClock.value(from: realtime &- now().systemTime, to: realtime &- before)
  }
}
