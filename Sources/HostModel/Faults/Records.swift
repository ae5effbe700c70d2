internal import ABIChecker
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
      "SLOT-DELETED-WRITTEN", breaks: ["SLOT-DELETE-NO-STALE"],
      "the memory of a slot that was deleted is still written: a cache that does not see the memory slots' generation",
      .history(.slots) { history in
        var inSlot: [Int: Int] = [:]
        var gone: Int?
        history.alter { action in
          switch action {
          case .slotSet(let slot, _, let memory, _, _): (inSlot[slot], gone) = (memory, nil)
          case .slotDeleted(let slot): gone = inSlot[slot]
          case .compared(let changes):
            guard let memory = gone, !changes.isEmpty else { return }
            action = .compared(
              changes: changes + [
                MemoryChange(memory: memory, offset: 64, bytes: changes[0].bytes.bytes)
              ])
          default: break
          }
        }
      }),
    Fault(
      "SLOT-READDED-UNSERVED", breaks: ["SLOT-READD-SERVED"], also: ["SYSTIME-SLOT-SERVED"],
      because: "it is a slot that is not served",
      "updates do not reach the memory that came into a slot: a cache that stays dead",
      .history(.slots) { history in
        var isBack = false
        var known: Set<Int> = []
        history.alter { action in
          switch action {
          case .slotSet(3, _, let memory, _, _):
            isBack = !known.isEmpty
            known.insert(memory)
          case .slotDeleted, .remapped: isBack = false
          case .compared(let changes) where isBack:
            action = .compared(changes: changes.filter { !known.contains($0.memory) })
          default: break
          }
        }
      }),
    Fault(
      "REMAPPED-STALE", breaks: ["HVA-REMAP-SERVED"],
      "after other pages came to a slot's address the old ones are written: a cache that the MMU notifier did not invalidate",
      .history(.slots) { history in
        var old: [Int: Int] = [:]
        history.alter { action in
          switch action {
          case .remapped(let memory, let shows): old[shows] = memory
          case .compared(let changes):
            action = .compared(
              changes: changes.map { change in
                var change = change
                change.memory = old[change.memory] ?? change.memory
                return change
              })
          default: break
          }
        }
      }),
    Fault(
      "READONLY-WRITTEN", breaks: ["READONLY-SLOT-UNTOUCHED"],
      "a record in a read-only slot is written",
      .history(.slots) { history in
        var readOnly: Int?
        history.alter { action in
          switch action {
          case .slotSet(_, _, let memory, _, let flags) where flags.value & 2 != 0:
            readOnly = memory
          case .slotDeleted: readOnly = nil
          case .compared(let changes):
            guard let memory = readOnly, !changes.isEmpty else { return }
            action = .compared(
              changes: changes + [
                MemoryChange(memory: memory, offset: 64, bytes: changes[0].bytes.bytes)
              ])
          default: break
          }
        }
      }),
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
      "DIRTY-RECORD-UNLOGGED", breaks: ["DIRTY-LOG-PVCLOCK"],
      "an update does not mark its page dirty: a migration would leave it behind",
      .history(.dirtyLog) { $0.dropDirtyPages(ofWallClock: false) }),
    Fault(
      "DIRTY-WALL-UNLOGGED", breaks: ["DIRTY-LOG-WALL"],
      "a write of the wall clock does not mark its page dirty",
      .history(.dirtyLog) { $0.dropDirtyPages(ofWallClock: true) }),
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

extension History {
  /// Takes the pages out of the logs that were fetched after writes of the wall clock, or after others.
  fileprivate mutating func dropDirtyPages(ofWallClock: Bool) {
    var isWallClock = false
    alter { action in
      switch action {
      case .wroteMSR(let msr, _, _):
        isWallClock = [UInt64(MSR.wallClock), UInt64(MSR.wallClockOld)].contains(msr.value)
      case .dirtyLog(let slot, _):
        if isWallClock == ofWallClock { action = .dirtyLog(slot: slot, pages: []) }
      default: break
      }
    }
  }
}
