internal import Glibc
internal import KVM
internal import Synchronization

/// The pages of a backing that are not there: a thread supplies each one a while after somebody began to wait for it.
public final class PageSupplier: @unchecked Sendable {
  /// A page, when somebody was seen to wait for it, and when it was there.
  public struct Supplied: Sendable {
    public var page: Int
    public var missed: Moment
    public var there: Moment
  }

  private let backing: Backing
  private let missing: MissingPages
  private let worker: WorkerThread
  private let bytes: [UInt8]
  private let isOver = Atomic(false)
  /// Written by the worker until it is done.
  private var supplied: [Supplied] = []
  private var error: KVMError?

  /// Takes the pages of `backing` away; what they held comes back page by page.
  ///
  /// - Parameter milliseconds: how long whoever touches a page waits for it at least.
  public init(of backing: Backing, milliseconds: Int) throws(MachineError) {
    self.backing = backing
    bytes = backing.memory.read(at: 0, count: backing.memory.size)
    do {
      missing = try MissingPages()
      try missing.watch(backing.place)
      try backing.discard()
    } catch {
      throw .kvm(error)
    }
    worker = try WorkerThread(name: "page-supplier")
    worker.begin { [self] in
      do throws(KVMError) {
        try supply(after: milliseconds)
      } catch {
        self.error = error
      }
    }
  }

  private func supply(after milliseconds: Int) throws(KVMError) {
    while !isOver.load(ordering: .acquiring) {
      guard let offset = try missing.next(in: backing.place, milliseconds: 5) else { continue }
      let missed = Moment.before()
      usleep(UInt32(milliseconds) * 1000)
      let size = MissingPages.pageSize
      try missing.supply(Array(bytes[offset..<offset + size]), at: offset, of: backing.place)
      supplied.append(Supplied(page: offset / size, missed: missed, there: .after()))
    }
    // Nobody is to wait for ever.
    for offset in stride(from: 0, to: bytes.count, by: MissingPages.pageSize) {
      let page = Array(bytes[offset..<offset + MissingPages.pageSize])
      try missing.supply(page, at: offset, of: backing.place)
    }
  }

  /// Supplies all pages that are still missing and ends; who was waited for.
  public func end() throws(MachineError) -> [Supplied] {
    isOver.store(true, ordering: .releasing)
    worker.stop()
    if let error { throw .kvm(error) }
    return supplied
  }
}

extension Backing {
  fileprivate func discard() throws(KVMError) { try pages.discard() }
}
