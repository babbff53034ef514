import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.util.List;

/** Speaks MongoDB's protocol on a port of loopback, with an oplog and without users. */
public class Server {
  public static void main(String[] arguments) throws Exception {
    // Drivers of today refuse the versions that it knows by itself.
    MongoVersion version =
        new MongoVersion() {
          public List<Integer> getVersionArray() {
            return List.of(6, 0, 0);
          }

          public int getWireVersion() {
            return 17;
          }

          public String toVersionString() {
            return "6.0.0";
          }
        };
    MongoServer server = new MongoServer(new MemoryBackend().version(version));
    server.enableOplog();
    server.bind("127.0.0.1", Integer.parseInt(arguments[0]));
    Thread.currentThread().join();
  }
}
