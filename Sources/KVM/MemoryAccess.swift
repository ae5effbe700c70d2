/// What a process may do with memory.
public struct MemoryAccess: OptionSet, Sendable {
  public let rawValue: Int

  public init(rawValue: Int) { self.rawValue = rawValue }

  public static let read = Self(rawValue: 1)
  public static let write = Self(rawValue: 2)
}
