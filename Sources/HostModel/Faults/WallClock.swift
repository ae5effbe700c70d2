internal import PVClock

extension Fault {
  static let wallClock: [Fault] = [
    Fault(
      "WALL-IS-NOW", breaks: ["WALL-VALUE"], also: ["WALL-VALUE-EXACT"],
      because: "a record that is off is not exact",
      "the record holds the time of the write, not that at which the clock was 0"
    ) {
      $0.wallRecord = { clock, _, record in record.move(by: Int64(clamping: clock.now().systemTime))
      }
    },
    Fault(
      "WALL-1-US-OFF", breaks: ["WALL-VALUE-EXACT"], "the wall clock is 1 us late"
    ) { $0.wallRecord = { _, _, record in record.move(by: 1000) } },
    Fault(
      "WALL-VERSION-ODD", breaks: ["WALL-VERSION"],
      also: ["WALL-SIZE-12", "WALL-ANY-ADDRESS", "WALL-HOSTSET"],
      because: "a record with an odd version is none", "the version is not raised after the data"
    ) { $0.wallStores = { _, _, stores in stores.removeLast() } },
    Fault(
      "WALL-NO-ODD-VERSION", breaks: ["WALL-NO-TORN"],
      "the new version is written with the data, and no odd one before"
    ) {
      $0.wallStores = { _, _, stores in
        let (version, data) = (stores[2].bytes, stores[1].bytes)
        stores = [
          Store(offset: 0, bytes: version), Store(offset: 4, bytes: Array(data[..<4])),
          Store(offset: 8, bytes: Array(data[4...])),
        ]
      }
    },
    Fault(
      "WALL-16-BYTES", breaks: ["WALL-SIZE-12"], "a fourth word is written, as Xen has"
    ) {
      $0.wallStores = { _, _, stores in stores.append(Store(offset: 12, bytes: [0, 0, 0, 0])) }
    },
    Fault(
      "WALL-CROSSPAGE-UNSERVED", breaks: ["WALL-ANY-ADDRESS"],
      also: ["WALL-VALUE", "WALL-VALUE-EXACT", "WALL-SIZE-12"],
      because: "a record that is not written holds what stood there",
      "a record across two pages is not written"
    ) {
      $0.wallStores = { _, address, stores in if address & 0xfff > 4084 { stores = [] } }
    },
    Fault(
      "WALL-UNALIGNED-UNSERVED", breaks: ["WALL-UNALIGNED"],
      also: ["WALL-VALUE", "WALL-VALUE-EXACT", "WALL-SIZE-12"],
      because: "a record that is not written holds what stood there",
      "an address that is not aligned is not written"
    ) { $0.wallStores = { _, address, stores in if address & 3 != 0 { stores = [] } } },
    Fault(
      "WALL-WRITTEN-AGAIN", breaks: ["WALL-ONESHOT"],
      "every update of a clock record writes the wall clock as well"
    ) {
      $0.record = { clock, _, _, _ in
        if clock.wallClockMSR != 0 { clock.writeWallClock(clock.wallClockMSR) }
      }
    },
    Fault(
      "WALL-TWO-READS", breaks: ["WALL-REWRITE-STABLE"],
      "the two clocks are read one after the other, up to 5 us apart: Linux before 5d6d6a7d7e66"
    ) {
      $0.wallRecord = { clock, _, record in record.move(by: Int64(clock.count(0) % 6) * 1000) }
    },
    Fault(
      "WALL-FROM-CREATION", breaks: ["WALL-FOLLOWS-SETCLOCK"],
      "the epoch of the first write is kept over KVM_SET_CLOCK"
    ) {
      $0.wallRecord = { clock, _, record in
        let first = clock.memo[0] ?? record.epochNanoseconds
        clock.memo[0] = first
        record.move(by: Int64(bitPattern: first &- record.epochNanoseconds))
      }
    },
    Fault(
      "WALL-READBACK-ALIGNED", breaks: ["WALL-READBACK"], also: ["WALL-GLOBAL"],
      because: "other vCPUs read the same wrong value",
      "the lowest bits of the value are lost"
    ) { $0.read = { _, access, value in if access.isWallClock { value &= ~3 } } },
    Fault(
      "WALL-PER-VCPU", breaks: ["WALL-GLOBAL"], also: ["WALL-READBACK"],
      because: "the host reads through a vCPU, too",
      "the value is kept per vCPU"
    ) {
      $0.beforeWrite { clock, access, value in
        if access.isWallClock { clock.memo[access.vcpu] = value }
      }
      $0.read = { clock, access, value in
        if access.isWallClock { value = clock.memo[access.vcpu] ?? 0 }
      }
    },
    Fault(
      "WALL-ZERO-WRITTEN", breaks: ["WALL-ZERO-NOP"], "0 is taken for an address"
    ) {
      $0.wallUnserved = { clock, address in
        if address == 0 { clock.memory.write([UInt8](repeating: 2, count: 12), at: 0) }
      }
    },
    Fault(
      "WALL-UNBACKED-FAULTS", breaks: ["WALL-UNBACKED-NOFAULT"],
      "an address without memory raises #GP"
    ) {
      $0.write = { clock, access, value in
        access.isWallClock && value != 0 && !clock.memory.isWritable(value, count: 12)
          ? .fault : nil
      }
    },
    Fault(
      "WALL-32-BITS", breaks: ["WALL-UNBACKED-NOFAULT"],
      "only the low 32 bits of the address are used"
    ) {
      $0.wallUnserved = { clock, address in
        let low = address & 0xffff_ffff
        if low != 0 { clock.memory.write([UInt8](repeating: 2, count: 12), at: low) }
      }
    },
    Fault(
      "WALL-HOST-KEEPS-ONLY", breaks: ["WALL-HOSTSET"],
      also: ["WALL-VALUE", "WALL-VALUE-EXACT", "WALL-SIZE-12", "WALL-ANY-ADDRESS"],
      because: "a record that is not written holds what stood there",
      "KVM_SET_MSRS keeps the value and writes nothing"
    ) {
      $0.write = { clock, access, value in
        guard access.byHost, access.isWallClock else { return nil }
        clock.wallClockMSR = value
        return .done
      }
    },
  ]
}

extension WallClock {
  mutating func move(by nanoseconds: Int64) {
    let epoch = epochNanoseconds &+ UInt64(bitPattern: nanoseconds)
    seconds = UInt32(truncatingIfNeeded: epoch / 1_000_000_000)
    self.nanoseconds = UInt32(epoch % 1_000_000_000)
  }
}
