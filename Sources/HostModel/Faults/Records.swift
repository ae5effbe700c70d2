internal import PVClock
internal import Synchronization

extension Fault {
  static let records: [Fault] = [
    Fault(
      "BYTES-33", breaks: ["PAGE-SIZE-32"], "an update writes one byte too many"
    ) { $0.stores = { _, _, _, stores in stores.append(Store(offset: 32, bytes: [0])) } },
    Fault(
      "PAD-KEPT", breaks: ["PAGE-PAD-ZERO"], "pad0 keeps what stood in guest memory"
    ) {
      $0.record = { _, _, before, record in record.pad0 = before.pad0 }
    },
    Fault(
      "COUNTS-FROM-ZERO-FLAG", breaks: ["FLAGS-RESERVED-ZERO"],
      "PVCLOCK_COUNTS_FROM_ZERO in every record: the other half of Linux 4.2"
    ) { $0.record = { _, _, _, record in record.flags.insert(.countsFromZero) } },
    Fault(
      "CROSSPAGE-UNSERVED", breaks: ["SYSTIME-CROSSPAGE-SERVED"],
      "a record across two pages is not written: Linux since 5.19, 916d3608df82"
    ) {
      $0.stores = { clock, vcpu, _, stores in
        if clock.vcpus[vcpu]!.recordAddress.crossesPage { stores = [] }
      }
    },
    Fault(
      "CROSSPAGE-STALE", breaks: ["SYSTIME-CROSSPAGE-NO-STALE"],
      also: ["SYSTIME-CROSSPAGE-SERVED", "SYSTIME-CROSSPAGE-NO-STRAY"],
      because: "what is written elsewhere is a stray write, and not where it should be",
      "the record before is updated in place of one across two pages: Linux since 5.19"
    ) {
      $0.stores = { clock, vcpu, _, stores in
        let address = clock.vcpus[vcpu]!.recordAddress
        if !address.crossesPage {
          clock.memo[vcpu] = address
        } else if let old = clock.memo[vcpu] {
          for store in stores { clock.memory.write(store.bytes, at: old + store.offset) }
          stores = []
        }
      }
    },
    Fault(
      "CROSSPAGE-STRAY", breaks: ["SYSTIME-CROSSPAGE-NO-STRAY"],
      "beside a record across two pages, something is written at the start of its first page: Linux 5.19 to 6.8"
    ) {
      $0.stores = { clock, vcpu, _, stores in
        let address = clock.vcpus[vcpu]!.recordAddress
        guard address.crossesPage else { return }
        clock.memory.write(stores[1].bytes, at: address & ~0xfff)
      }
    },
    Fault(
      "ADDRESS-32-BITS", breaks: ["SYSTIME-SLOT-SERVED"], "a record above 4 GiB is not written"
    ) {
      $0.stores = { clock, vcpu, _, stores in
        if clock.vcpus[vcpu]!.recordAddress >> 32 != 0 { stores = [] }
      }
    },
    Fault(
      "LATE-MEMORY-UNSERVED", breaks: ["SYSTIME-UNBACKED-LATE-MAP"],
      also: ["SLOT-READD-SERVED", "HVA-REMAP-SERVED"],
      because: "a slot that comes back is memory that comes late",
      "a record that had no memory once is not served until the MSR is written again: Linux before 5.19"
    ) {
      $0.unserved = { clock, vcpu in clock.memo[vcpu] = clock.vcpus[vcpu]!.recordAddress }
      $0.stores = { clock, vcpu, _, stores in
        if clock.memo[vcpu] == clock.vcpus[vcpu]!.recordAddress { stores = [] }
      }
    },
    Fault(
      "VERSION-LEFT-ODD", breaks: ["VERSION-EVEN", "SYSTIME-ENABLE"],
      "the version is not raised after the data"
    ) { $0.stores = { _, _, _, stores in stores.removeLast() } },
    Fault(
      "VERSION-OWN-COUNT", breaks: ["VERSION-STEP"],
      "the version goes on from the host's own count, whatever the guest has written there"
    ) {
      $0.stores = { clock, vcpu, _, stores in
        let version = UInt32(truncatingIfNeeded: clock.count(vcpu)) &* 2
        stores[0].bytes = VMClock.bytes(version &- 1)
        stores[2].bytes = VMClock.bytes(version)
      }
    },
    Fault(
      "VERSION-BACK", breaks: ["VERSION-MONO"], also: ["VERSION-NO-TORN"],
      because: "a version that comes a second time names two updates",
      "every 50th update takes the version back"
    ) {
      $0.stores = { clock, vcpu, before, stores in
        guard vcpu == 0, clock.count(0) % 50 == 0 else { return }
        stores[0].bytes = VMClock.bytes(before.version &- 3)
        stores[2].bytes = VMClock.bytes(before.version &- 2)
      }
    },
    Fault(
      "TORN", breaks: ["VERSION-NO-TORN"],
      "an update changes the record in two steps under an even version: Linux before 5dca0d9147"
    ) { $0 = .torn(each: 1) },
  ]
}

extension Deviation {
  /// Every so many updates of vCPU 0's record are torn.
  static func torn(each: UInt64) -> Deviation {
    var deviation = Deviation()
    // Over several machines: a rare one may need more updates than one scenario makes.
    let updates = Counter()
    deviation.stores = { _, vcpu, _, stores in
      guard vcpu == 0, updates.next() % each == 0 else { return }
      let data = stores[1].bytes
      stores = [
        Store(offset: 0, bytes: stores[2].bytes), Store(offset: 4, bytes: Array(data[..<12])),
        Store(offset: 16, bytes: Array(data[12...])),
      ]
    }
    return deviation
  }
}

private final class Counter: Sendable {
  private let value = Atomic<UInt64>(0)

  func next() -> UInt64 { value.add(1, ordering: .relaxed).newValue }
}

extension UInt64 {
  fileprivate var crossesPage: Bool { (self & 0xfff) + 32 > 4096 }
}
