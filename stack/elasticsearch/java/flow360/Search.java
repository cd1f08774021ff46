package flow360;

import java.lang.reflect.Field;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.opensearch.common.lifecycle.AbstractLifecycleComponent;
import org.opensearch.common.lifecycle.Lifecycle;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.http.HttpServerTransport;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.Plugin;
import org.opensearch.security.auth.BackendRegistry;

/**
 * OpenSearch out of Maven's jars, where no distribution with its folders of modules and plugins is: they stand on the class
 * path, and a node takes such only from a class of its own.
 *
 * It opens its port when it knows its users, and not some seconds before: until then it answers 503 to everybody, and the
 * shipper takes that for a no to the lines that it has sent, and drops them.
 *
 * Arguments: the folder of opensearch.yml, then the classes of the modules and plugins.
 */
public final class Search extends Node {
    private Search(Environment environment, List<Class<? extends Plugin>> modules) {
        super(environment, modules, true);
    }

    public static void main(String[] args) throws Exception {
        Path conf = Path.of(args[0]);
        List<Class<? extends Plugin>> modules = new ArrayList<>();
        for (String name : List.of(args).subList(1, args.length)) {
            modules.add(Class.forName(name).asSubclass(Plugin.class));
        }
        Settings home = Settings.builder().put("path.home", conf.getParent()).build();
        Search node = new Search(InternalSettingsPreparer.prepareEnvironment(home, Map.of(), conf, () -> "elasticsearch"), modules);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception error) {
                error.printStackTrace();
            }
        }));
        HttpServerTransport port = node.injector().getInstance(HttpServerTransport.class);
        Lifecycle state = stateOf(port);
        state.moveToStarted(); // what is started already, the node does not start
        node.start();
        BackendRegistry users = node.injector().getInstance(BackendRegistry.class);
        while (!users.isInitialized()) {
            Thread.sleep(50);
        }
        state.moveToStopped();
        port.start();
        new CountDownLatch(1).await(); // its own threads let a JVM end
    }

    private static Lifecycle stateOf(HttpServerTransport port) throws ReflectiveOperationException {
        Field field = AbstractLifecycleComponent.class.getDeclaredField("lifecycle");
        field.setAccessible(true);
        return (Lifecycle) field.get(port);
    }
}
